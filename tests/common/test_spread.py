from common.spread import spread


def test_a_subset_is_spread_evenly():
    assert spread(range(10), 5) == [0, 2, 4, 6, 8]
    assert spread(range(10), 3) == [0, 3, 6]
    assert spread(range(3), None) == spread(range(3), 7) == [0, 1, 2]
