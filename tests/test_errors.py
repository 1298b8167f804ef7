"""Words that errors are put together from."""

from __future__ import annotations

from perception.errors import list_names


def test_a_list_of_names_says_how_many_it_leaves_out() -> None:
    assert list_names([]) == 'nothing'
    assert list_names(list('abcdefgh')) == 'a, b, c, d, e, f, g, h'
    assert list_names(list('abcdefghij')) == 'a, b, c, d, e, f, g, h and 2 more'
