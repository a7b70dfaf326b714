"""Workers that start where something is missing: they wait for what may come, and say how to mend the rest."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from local.ports import HOST, free_ports
from tests.processors.model import Model, ModelServer
from tests.processors.segments import segment
from tests.processors.worker import PATIENCE_S, Topics, Worker

if TYPE_CHECKING:
    from local.broker import Broker

pytestmark = pytest.mark.integration


def test_given_no_broker_then_one_clear_message_and_exit_status_2(broker: Broker) -> None:
    topics = Topics(broker)
    topics.bootstrap_servers = f"{HOST}:{free_ports(1)[0]}"
    with Worker(topics, "localhost:1", broker_wait_s=1) as worker:
        assert worker.wait() == 2
        (line,) = worker.log.read_text().splitlines()
    assert f"no Kafka broker answers at {topics.bootstrap_servers}" in line


def test_given_no_topics_then_the_message_says_how_to_create_them(broker: Broker) -> None:
    topics = Topics(broker)
    with Worker(topics, "localhost:1", labels_topic="nobody-made-this") as worker:
        assert worker.wait() == 2
        (line,) = worker.log.read_text().splitlines()
    assert "no topic nobody-made-this" in line
    assert "earshot topics" in line


def test_given_a_taken_port_then_the_message_names_it(broker: Broker) -> None:
    topics = Topics(broker)
    worker = Worker(topics, "localhost:1")
    with socket.create_server((HOST, worker.port)), worker:
        assert worker.wait() == 2
        (line,) = worker.log.read_text().splitlines()
    assert f"{HOST}:{worker.port}" in line
    assert "EARSHOT_PROCESSOR_WEB_PORT" in line


def test_given_a_model_of_another_spectrogram_then_exit_status_2_and_nothing_consumed(broker: Broker) -> None:
    topics = Topics(broker)
    model = Model()
    model.input_shape = [-1, 64, 301, 1]
    with ModelServer(model) as server, Worker(topics, server.address) as worker:
        topics.send([segment().to_record()])
        assert worker.wait() == 2
        assert "[-1, 64, 301, 1]" in worker.log.read_text().splitlines()[-1], worker.log.read_text()
        assert "Traceback" not in worker.log.read_text()
    assert not model.batches


def test_given_a_model_server_that_is_not_there_yet_then_the_worker_says_so_and_waits(broker: Broker) -> None:
    topics = Topics(broker)
    server = ModelServer()
    server.start()
    server.stop()
    one = segment()
    topics.send([one.to_record()])
    with Worker(topics, server.address) as worker:
        give_up_at = time.monotonic() + PATIENCE_S
        while "waiting for the model server" not in worker.log.read_text():
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
        assert worker.get("/ready")[0] != 200
        server.start()
        try:
            topics.read_labels([one.segment_id])
            worker.wait_until_ready()
        finally:
            server.stop()
        assert worker.terminate() == 0, "a worker whose model is away stops too"
