"""Colours and markers of the lines in plots that compare methods."""

# Okabe and Ito's palette, then Tol's, with different markers, so that colour-blind readers can tell them apart.
STYLES = (
    ("#0072b2", "o"),
    ("#d55e00", "X"),
    ("#e69f00", "v"),
    ("#009e73", "s"),
    ("#cc79a7", "D"),
    ("#56b4e9", "^"),
    ("#000000", "P"),
    ("#999999", "<"),
    ("#882255", ">"),
    ("#332288", "h"),
    ("#999933", "p"),
    ("#44aa99", "d"),
    ("#cc6677", "8"),
    ("#117733", "H"),
)
DENSE_STYLE = ("#000000", "*")
