"""Writes the configuration tables of README.md from the settings classes."""

from __future__ import annotations

from pathlib import Path

from earshot.admin import TopicsSettings
from earshot.settings import KafkaSettings, Settings, settings_table
from earshot.tail import TailSettings
from local.settings import DemoSettings, ReplaySettings
from processors.settings import ProcessorSettings
from producers.settings import AgentSettings
from serving.settings import ServerSettings
from training.settings import EvaluateSettings, RetrainSettings

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- configuration: written by `python scripts/configuration.py` -->\n"
END = "<!-- end of configuration -->\n"

COMPONENTS: list[tuple[str, type[Settings]]] = [
    ("every command below (`--bootstrap-servers`: those that talk to Kafka)", KafkaSettings),
    ("`earshot agent`, `python -m producers`", AgentSettings),
    ("`earshot processor`, `python -m processors`", ProcessorSettings),
    ("`earshot serve`, `python -m serving`", ServerSettings),
    ("`earshot retrain`, `python training/retrain.py`", RetrainSettings),
    ("`earshot evaluate`, `python training/evaluate.py`", EvaluateSettings),
    ("`earshot topics`", TopicsSettings),
    ("`earshot labels`", TailSettings),
    ("`earshot replay`", ReplaySettings),
    ("`earshot demo`", DemoSettings),
]


def tables() -> str:
    """A Markdown table for each component, without what all of them share."""
    shared = {row[0] for row in settings_table(KafkaSettings)}
    parts = []
    for title, settings in COMPONENTS:
        rows = [row for row in settings_table(settings) if settings is KafkaSettings or row[0] not in shared]
        lines = [f"| `{variable}` | `{option}` | {default} | {text} |" for variable, option, default, text in rows]
        parts.append(
            "\n".join([f"{title}:\n", "| variable | option | default | what |", "| --- | --- | --- | --- |", *lines])
        )
    return "\n\n".join(parts) + "\n"


def with_tables(text: str) -> str:
    """`text`, a README, with the tables as they are now."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
