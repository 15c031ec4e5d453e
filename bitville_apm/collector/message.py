"""What an alert says, in the forms its ways want it: JSON, Markdown, a subject and a text. Pure."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate
from typing import Literal

import attrs
import msgspec

from bitville_apm import limits
from bitville_apm.analysis.markdown import markdown
from bitville_apm.analysis.report import Report
from bitville_apm.analysis.telling import lasted, load, moment, shown
from bitville_apm.store.interface import Spike

Event = Literal["open", "over"]


@attrs.frozen
class Message:
    """One alert. `suppressed`: alerts of this project that were not sent since the last one that was."""

    event: Event
    spike: Spike
    report: Report
    link: str
    suppressed: int = 0

    @property
    def subject(self) -> str:
        """One line without a line end: what, where, and how bad."""
        hosts = ", ".join(self.spike.hosts[:3]) + (" …" if len(self.spike.hosts) > 3 else "")
        what = "Load spike" if self.report.kind == "load" else "Spike"
        told = f"{what} on {hosts} ({self.spike.project}): from {load(self.spike.baseline)} to {load(self.spike.level)}"
        if self.event == "over" and self.spike.end is not None:
            told = f"Over after {lasted(self.spike.end - self.spike.onset)}: {told}"
        return shown(told)[: limits.ALERT_SUBJECT]

    @property
    def text(self) -> str:
        """The subject, the verdict, and where to read more: what fits into a chat."""
        lines = [self.subject, shown(self.report.verdict), f"since {moment(self.spike.onset)}", self.link]
        if self.suppressed:
            lines.append(f"{self.suppressed} earlier alerts of this project were not sent: too many in an hour")
        return "\n".join(lines)

    def json(self) -> bytes:
        """For programs. `text` is what chats show of an incoming webhook."""
        spike = self.spike
        own = {"id": spike.id, "project": spike.project, "hosts": spike.hosts, "revision": spike.revision}
        told = {
            "event": self.event,
            "text": self.text,
            "link": self.link,
            "suppressed": self.suppressed,
            "spike": {**own, **msgspec.structs.asdict(self.report)},
        }
        return msgspec.json.encode(told)

    def markdown(self) -> str:
        """The whole report."""
        return markdown(self.report, self.link)

    def mail(self, sender: str, to: list[str], now: float) -> bytes:
        """A mail with the text and the report; messages of one spike are one conversation."""
        mail = EmailMessage()
        mail["Subject"] = self.subject
        mail["From"] = sender
        mail["To"] = ", ".join(to)
        mail["Date"] = formatdate(now)
        domain = sender.rpartition("@")[2].rstrip(">") or "localhost"
        first = f"<{self.spike.id}.open@{domain}>"
        mail["Message-ID"] = first if self.event == "open" else f"<{self.spike.id}.over@{domain}>"
        if self.event == "over":
            mail["In-Reply-To"] = mail["References"] = first
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(f"{self.text}\n\n{self.markdown()}", cte="quoted-printable")
        # A subject of 200 characters in one line: folded ones begin with a space in some readers.
        return mail.as_bytes(policy=SMTP.clone(max_line_length=2 * limits.ALERT_SUBJECT))
