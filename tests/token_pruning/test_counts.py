"""Numbers of tokens of each image, equal or not, agree with plain tuples."""

import pytest
import torch

from token_pruning import Counts

CPU = torch.device("cpu")


@pytest.mark.parametrize("numbers", [(3, 3, 3), (2, 0, 5), (4,), (0, 0), ()])
def test_counts_are_what_the_tuple_of_their_numbers_says(numbers):
    counts = Counts.of(numbers)
    assert counts == numbers and tuple(counts) == numbers and Counts.of(counts) is counts
    assert hash(counts) == hash(Counts.of(list(numbers))) and counts != (*numbers, 1)
    assert (counts.batch, counts.total, counts.most) == (len(numbers), sum(numbers), max(numbers, default=0))
    assert (counts.each is None) == (len(set(numbers)) > 1)
    assert counts.plus(2) == tuple(n + 2 for n in numbers) and counts.share(0.5) == tuple(round(n / 2) for n in numbers)
    assert counts.tensor(CPU).tolist() == list(numbers) and counts.tensor(CPU).dtype == torch.int64
    values = torch.randn(sum(numbers), 2)
    for part, wanted in zip(counts.split(values), values.split(list(numbers)), strict=True):
        assert torch.equal(part, wanted)
    assert [n for group in counts.groups(values) for n in [group.shape[1]] * len(group)] == list(numbers)
    images = torch.arange(len(numbers))
    assert counts.per_token(images).tolist() == [image for image, n in enumerate(numbers) for _ in range(n)]


def test_different_numbers_have_no_form_by_image():
    assert Counts.equal(2, 3).by_image(torch.randn(6, 4)).shape == (3, 2, 4)
    with pytest.raises(ValueError, match=r"same number of tokens in every image, and they are \(1, 2\)"):
        Counts.of((1, 2)).by_image(torch.randn(3, 4))
