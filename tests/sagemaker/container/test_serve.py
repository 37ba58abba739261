"""What the variables of a serving container ask for."""

import pytest

from ncf.errors import ArtifactError, ConfigError
from ncf.sagemaker.container import serve
from ncf.sagemaker.container.serve import settings_from


def test_the_defaults_are_sagemakers() -> None:
    settings = settings_from({})
    assert (settings.artifact, settings.host, settings.port) == ("/opt/ml/model", "0.0.0.0", 8080)
    assert 1 <= settings.workers <= 4
    assert settings.exact is False


def test_variables_decide() -> None:
    settings = settings_from({"SAGEMAKER_BIND_TO_PORT": "9000", "NCF_WORKERS": "3", "NCF_EXACT": "1"}, "m")
    assert (settings.artifact, settings.port, settings.workers, settings.exact) == ("m", 9000, 3, True)


def test_an_empty_variable_is_none() -> None:
    assert settings_from({"SAGEMAKER_BIND_TO_PORT": "", "NCF_EXACT": ""}).port == 8080


@pytest.mark.parametrize("name", ["SAGEMAKER_BIND_TO_PORT", "NCF_WORKERS"])
@pytest.mark.parametrize("value", ["two", "-1", "1.5"])
def test_what_is_no_whole_number_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be a whole number, and not '{value}'"):
        settings_from({name: value})


def test_a_mistake_ends_with_one_sentence_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(settings: object) -> None:
        raise ArtifactError("The artifact is damaged.")

    monkeypatch.setattr(serve, "serve", refuse)
    assert serve.main() == 1
    assert capsys.readouterr().err == "[ncf] The artifact is damaged.\n"
