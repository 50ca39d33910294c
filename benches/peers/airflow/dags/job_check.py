"""The check of a status answer. The triggerer loads this file again for each answer."""

import json
from typing import Any

INTERVAL = 2.0
FINAL = {"completed", "failed", "cancelled", "expired"}


async def finished(response: Any) -> bool:
    """Return whether a status answer says that the job has finished."""
    return json.loads(response.content)["status"] in FINAL
