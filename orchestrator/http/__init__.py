"""The front door: OpenAI's images interface over the orchestrator's service.

A request's way: app and routes → envelope (id, errors) → doors (keys and meter: who, how often) →
body (bounded) → schema (fields) → plan and size (what the model can do) → images (one service
request per picture) → files and reading (who owns what, chunk by chunk) → streamed (base64 to the
client) or shelf and links (kept for a while, fetched by URL). media and store know where finished
files lie; pages has everything small. ports says what all this needs from the rest of the
orchestrator.

A job's way: submission (checks, Idempotency-Key) → jobs (its handlers) → job_page (how clients see
it), event_stream (as it moves) and download (its files); keyed is a picture that is a job
underneath.
"""

from orchestrator.http.app import create_app
from orchestrator.http.media.gateway import MediaGateway
from orchestrator.http.options import HttpOptions

__all__ = ["HttpOptions", "MediaGateway", "create_app"]
