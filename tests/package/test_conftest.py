"""What is missing is skipped at home and fails in CI, where a skip would hide that the set-up is broken."""

import pytest

from tests import conftest

SKIPPED, FAILED = pytest.skip.Exception, pytest.fail.Exception


def verdict_of(function, argument, message):
    """How a test that calls `function(argument)` ends. (A skip let through would skip the test of it.)"""
    with pytest.raises((SKIPPED, FAILED), match=message) as caught:
        function(argument)
    return caught.type


@pytest.fixture(params=[False, True], ids=["home", "ci"])
def verdict(request, monkeypatch):
    """What a test that lacks something has to end in, at home and in CI."""
    monkeypatch.setattr(conftest, "IN_CI", request.param)
    return FAILED if request.param else SKIPPED


def test_a_missing_package_is_named_with_the_way_to_get_it(require_package, verdict):
    message = "missing: the package no_such_package; pip install"
    assert verdict_of(require_package, "no_such_package", message) is verdict


def test_a_file_that_the_data_folder_lacks_is_named(test_data, verdict, monkeypatch, tmp_path):
    monkeypatch.setenv("MINILM_TEST_DATA", str(tmp_path))
    message = "missing: the test data .*no_such_file.txt"
    assert verdict_of(test_data, "no_such_file.txt", message) is verdict


def test_without_a_data_folder_a_test_is_skipped_everywhere(test_data, verdict, monkeypatch):
    monkeypatch.delenv("MINILM_TEST_DATA", raising=False)
    assert verdict_of(test_data, "tinyshakespeare/input.txt", "set MINILM_TEST_DATA") is SKIPPED


def test_what_is_there_is_handed_over(test_data, require_package, verdict, monkeypatch, tmp_path):
    (tmp_path / "corpus.txt").write_text("text")
    monkeypatch.setenv("MINILM_TEST_DATA", str(tmp_path))
    assert test_data("corpus.txt").read_text() == "text"
    assert require_package("json").__name__ == "json"


def test_a_package_that_is_installed_but_broken_is_an_error(require_package, verdict, monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        require_package("broken_package")
