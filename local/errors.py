"""What can go wrong with the local broker; each message says what was found and what to do next."""

from __future__ import annotations


class BrokerError(RuntimeError):
    """Base of every failure of the local broker."""


class JavaMissing(BrokerError):
    """There is no Java, or one that is too old for Kafka."""


class MavenMissing(BrokerError):
    """There is no Maven, and Kafka's jars are not in the cache yet."""


class JarsMissing(BrokerError):
    """Maven could not fetch Kafka's jars; the message has its last lines."""


class CacheUnusable(BrokerError):
    """What is fetched cannot be kept in the cache folder."""


class PortTaken(BrokerError):
    """Something else listens on the port that was asked for."""


class DataFolderUnusable(BrokerError):
    """The data folder cannot be made, written or formatted."""


class DataFolderInUse(BrokerError):
    """Another broker runs on the data folder."""


class BrokerDied(BrokerError):
    """The broker ended while it started; the message has its last log lines."""


class BrokerSilent(BrokerError):
    """The broker runs but answered no client in time; the message has its last log lines."""
