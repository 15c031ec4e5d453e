"""The two daemons, as twistd sees them. Imports nothing of ours, so that `twistd --help` stays quick and safe."""

from twisted.application.service import ServiceMaker

bitville_agent = ServiceMaker(  # type: ignore[no-untyped-call]
    "Bitville APM agent",
    "bitville_apm.agent.tap",
    "Bitville APM: receives from PHP on this host, keeps a journal, forwards to the collector.",
    "bitville-agent",
)
bitville_collector = ServiceMaker(  # type: ignore[no-untyped-call]
    "Bitville APM collector",
    "bitville_apm.collector.tap",
    "Bitville APM: receives from agents, stores, answers questions.",
    "bitville-collector",
)
