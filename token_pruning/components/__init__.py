"""Building blocks that several methods share: scores, rankings, matching, schedules and learned predictors."""
