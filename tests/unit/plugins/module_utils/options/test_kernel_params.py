# Copyright (c) 2026 The kata.hypervisor authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameters to and from words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kata.hypervisor.plugins.module_utils.errors import ConfigError
from ansible_collections.kata.hypervisor.plugins.module_utils.host.words import split_words
from ansible_collections.kata.hypervisor.plugins.module_utils.options.kernel_params import (
    Param,
    add_kernel_param,
    deserialize_params,
    kernel_params_string,
    parse_kernel_params,
    serialize_params,
)

WORDS = st.text(st.characters(exclude_characters="=", exclude_categories=["Z", "C"]), min_size=1)
PARAMS = st.lists(st.builds(Param, WORDS, WORDS))


@given(PARAMS)
def test_params_survive_the_way_to_words_and_back(params):
    assert deserialize_params(serialize_params(params)) == params


@given(PARAMS)
def test_params_survive_the_way_to_a_command_line_and_back(params):
    assert parse_kernel_params(kernel_params_string(params)) == params


@given(st.lists(st.text()))
def test_a_second_round_trip_changes_nothing_where_no_key_is_missing(words):
    words = [word for word in words if not word.startswith("=")]
    once = serialize_params(deserialize_params(words))
    assert serialize_params(deserialize_params(once)) == once


@given(PARAMS)
def test_an_empty_delimiter_gives_two_words_for_each_pair(params):
    assert serialize_params(params, "") == [part for param in params for part in param]


@given(st.text())
def test_words_have_no_white_space_around_them(text):
    assert all(word == word.strip(" \t\r\n\u2003\u00a0") and word for word in split_words(text))


def test_information_separators_are_no_white_space():
    assert split_words("a\x1cb c") == ["a\x1cb", "c"]


def test_a_value_keeps_its_blanks():
    assert kernel_params_string([Param("rootflags", "dax ro"), Param("quiet")]) == "rootflags=dax ro quiet"


def test_a_parameter_is_added_at_the_end_of_a_new_list():
    before = [Param("a", "1")]
    assert add_kernel_param(before, Param("a", "2")) == [Param("a", "1"), Param("a", "2")]
    assert before == [Param("a", "1")]


def test_a_parameter_without_a_name_is_refused():
    with pytest.raises(ConfigError, match="needs a name"):
        add_kernel_param([], Param("", "x"))
