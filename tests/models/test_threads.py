"""The number of threads, from made-up times."""

import pytest
import torch

from outpace.models.threads import best_threads, thread_counts

pytestmark = pytest.mark.usefixtures("threads")


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 4.0, 2: 2.0, 4: 1.0}, 4),
        ({1: 1.0, 2: 2.0, 4: 3.0}, 1),
        ({1: 4.0, 2: 1.02, 4: 1.0}, 2),  # within 3 %: the fewer
        ({1: 4.0, 2: 1.04, 4: 1.0}, 4),
    ],
)
def test_the_fastest_or_the_fewer(seconds: dict[int, float], best: int) -> None:
    met = []

    def measure() -> float:
        met.append(torch.get_num_threads())
        return seconds[met[-1]]

    assert best_threads(measure, list(seconds)) == (best, seconds)
    assert torch.get_num_threads() == best
    assert met[:6] == [1, 2, 4, 1, 2, 4]  # in turn


def test_what_was_set_stays_where_measuring_fails() -> None:
    torch.set_num_threads(1)

    def measure() -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        best_threads(measure, [2])
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_numbers_to_try(cores: int, counts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert thread_counts() == counts
