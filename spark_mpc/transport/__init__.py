"""How parties reach each other: one interface, over threads of one process or over mutual TLS."""

from spark_mpc.transport.base import RENDEZVOUS, RENDEZVOUS_STEPS, Progress, Tap, Traffic, Transport
from spark_mpc.transport.memory import MemoryHub
from spark_mpc.transport.tls import tls_transport

__all__ = [
    "RENDEZVOUS",
    "RENDEZVOUS_STEPS",
    "MemoryHub",
    "Progress",
    "Tap",
    "Traffic",
    "Transport",
    "tls_transport",
]
