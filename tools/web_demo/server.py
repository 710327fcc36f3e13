"""The server of the page: it limits uploads, runs one image at a time, and answers every mistake with a sentence.

Uploads are never written to disk: the body is read into memory, decoded there, and dropped after the response.
"""

import asyncio
import io
import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pair import Pair
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from turns import QueueFullError, RequestQueue
from upload import MAX_SIDE, open_image

from mmcv_custom.errors import UserError
from token_pruning.errors import SettingError

HERE = Path(__file__).parent
FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
BODY_TIMEOUT_S = 30  # time limit for the arrival of a request body
# no-store: browsers must not keep responses on disk either.
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' "
    "data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}


@dataclass(frozen=True)
class Limits:
    """Limits of uploads.

    Attributes:
        megabytes: size of a body, 10^6 bytes.
        megapixels: size of an image.
        queue: images that may wait while another one runs; few of them are in memory (``turns.py``).
    """

    megabytes: float = 20
    megapixels: float = 32
    queue: int = 30


def make_app(pairs: Mapping[str, Pair], limits: Limits, hosts: list[str]) -> Starlette:
    """Return the web application.

    Args:
        pairs: models by name.
        limits: of uploads.
        hosts: accepted host names; ["*"] for all. Others are refused, so that no foreign page can reach a local server
            under its own host name (DNS rebinding).
    """
    queue = RequestQueue(limits.queue)
    worker = ThreadPoolExecutor(1)  # always the same thread, because PyTorch keeps a thread pool for each

    async def models(request: Request) -> Response:
        return _json(
            dict(
                models=[pair.describe() for pair in pairs.values()],
                megabytes=limits.megabytes,
                megapixels=limits.megapixels,
            )
        )

    async def example(request: Request) -> Response:
        image, buffer = _chosen(request, pairs).example(), io.BytesIO()
        image.thumbnail((MAX_SIDE, MAX_SIDE))
        image.save(buffer, "JPEG", quality=95)
        return Response(buffer.getvalue(), media_type="image/jpeg", headers=HEADERS)

    async def run(request: Request) -> Response:
        try:
            pair, position = _chosen(request, pairs), _position(request)
            async with queue.slot(request.client.host if request.client else "") as turn:
                body = await asyncio.wait_for(_body(request, 1e6 * limits.megabytes), BODY_TIMEOUT_S)
                async with queue.running_alone(turn):
                    if await request.is_disconnected():
                        return Response(status_code=499)
                    job = partial(_answer, pair, body, position, limits.megapixels)
                    return await asyncio.get_running_loop().run_in_executor(worker, job)
        except QueueFullError:
            await _drain(request, 4e6 * limits.megabytes)
            raise HTTPException(
                503, "the server is busy with other images: try again in a moment", {"Retry-After": "3"}
            ) from None
        except HTTPException:
            await _drain(request, 4e6 * limits.megabytes)
            raise
        except asyncio.TimeoutError:
            raise HTTPException(408, f"the image did not arrive within {BODY_TIMEOUT_S} seconds: try again") from None
        except ClientDisconnect:
            return Response(status_code=499)

    return Starlette(
        routes=[
            *(Route(path, partial(_file, *file)) for path, file in FILES.items()),
            Route("/models", models),
            Route("/example", example),
            Route("/run", run, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={UserError: _mistake, SettingError: _mistake, HTTPException: _refusal, Exception: _bug},
    )


def _answer(pair: Pair, body: bytes, position: float | None, megapixels: float) -> Response:
    return _json(pair.run(open_image(body, megapixels), position))


def _chosen(request: Request, pairs: Mapping[str, Pair]) -> Pair:
    name = request.query_params.get("model", next(iter(pairs)))
    if name not in pairs:
        raise HTTPException(404, f"there is no model {name[:80]}: choose {' or '.join(pairs)}")
    return pairs[name]


def _position(request: Request) -> float | None:
    text = request.query_params.get("cost_value")
    if not text:
        return None
    try:
        position = float(text)
    except ValueError:
        position = math.nan
    if not math.isfinite(position):
        raise HTTPException(400, f"cost_value = {text[:80]} is no number")
    return position


async def _body(request: Request, limit: float) -> bytes:
    """Return the whole body; raise HTTPException 413 as soon as it is longer than ``limit`` bytes."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise HTTPException(413, f"the file is larger than {limit / 1e6:g} MB: make the image smaller")
    return bytes(body)


async def _drain(request: Request, limit: float) -> None:
    """Read and discard the rest of the body: if the connection were closed before, the response would be lost."""

    async def read() -> None:
        seen = 0
        async for part in request.stream():
            seen += len(part)
            if seen > limit:
                return

    try:
        await asyncio.wait_for(read(), BODY_TIMEOUT_S)
    except (asyncio.TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: the body was already read
        pass


async def _file(name: str, kind: str, request: Request) -> Response:
    return Response((HERE / name).read_bytes(), media_type=kind, headers=HEADERS)


def _json(content: dict, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(content, status, {**HEADERS, **(headers or {})})


async def _mistake(request: Request, error: UserError | SettingError) -> Response:
    return _json(dict(error=f"{error}."), 400)


async def _refusal(request: Request, error: HTTPException) -> Response:
    return _json(dict(error=f"{error.detail}."), error.status_code, error.headers)


async def _bug(request: Request, error: Exception) -> Response:
    return _json(dict(error="the model failed on this image; see the terminal of the server."), 500)
