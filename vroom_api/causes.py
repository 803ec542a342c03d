"""Why requests are refused: each cause that a problem may have, what it means and what to do about it."""

from typing import Any, Final

import msgspec

from vroom_api.problems import Problem


class Cause(msgspec.Struct, frozen=True):
    """One cause; the problem's `type` is its own, `help` the path of its page."""

    type: str
    statuses: list[int]
    meaning: str
    remedy: str
    example: dict[str, Any]  # the members of such a problem


def _cause(name: str, statuses: int | tuple[int, ...], meaning: str, remedy: str, detail: str) -> Cause:
    listed = [statuses] if isinstance(statuses, int) else list(statuses)
    example = Problem(listed[0], name, detail).content()
    return Cause(example["type"], listed, meaning, remedy, example)


_LISTED = (
    # Of a request as such.
    _cause(
        "bad-request",
        400,
        "A parameter of the query or the path is not of its type, or outside its range.",
        "Send what `detail` asks for; /schema has the type and the range of every parameter.",
        "limit: expected a whole number at most 1000",
    ),
    _cause(
        "unknown-parameter",
        400,
        "The route does not take this query parameter, and would have passed it over.",
        "Correct its name; `allowed` has those that are taken.",
        "limits: no such parameter here (did you mean limit?); there is before, event, forecast, limit",
    ),
    _cause(
        "repeated-parameter",
        400,
        "A query parameter was given more than once, and each has one value.",
        "Give it once.",
        "limit: given 2 times; give it once",
    ),
    _cause(
        "repeated-header",
        400,
        "A header that decides something (Host, Origin, Authorization, Content-Type …) was sent twice: a proxy may "
        "believe the one and the service the other.",
        "Send it once; a proxy in between may be adding it.",
        "the header authorization was sent twice; send it once",
    ),
    _cause(
        "bad-host",
        400,
        "The header Host is not a name or an address with an optional port.",
        "Let the client set it from the URL.",
        "the header Host is not a name or an address with an optional port",
    ),
    _cause(
        "unknown-host",
        400,
        "The request is addressed to a host that this service does not answer for.",
        "Ask by one of the names in VROOM_ALLOWED_HOSTS, or add this one to it.",
        "this service does not answer for the host 'shop'; VROOM_ALLOWED_HOSTS names those it answers for",
    ),
    _cause(
        "no-http",
        400,
        "What was sent is not a valid HTTP/1.1 request.",
        "Use an HTTP client, over the scheme that is served: TLS is for a proxy in front.",
        "this is not a valid HTTP/1.1 request",
    ),
    _cause(
        "disconnected",
        400,
        "The connection ended before the body did.",
        "Send the whole body; nothing was predicted or recorded.",
        "the connection ended before the body did",
    ),
    _cause(
        "malformed",
        400,
        "The body is not JSON in UTF-8.",
        "Correct it where `detail` says that reading stopped. NaN and Infinity are not JSON: send null, or leave the "
        "input out.",
        "the body cannot be read as JSON: it is empty",
    ),
    _cause(
        "malformed-inference",
        400,
        "The body is JSON and not a request of the Open Inference Protocol.",
        "Send `inputs`, each with name, shape, datatype and data; with bytes behind the JSON, the header "
        "Inference-Header-Content-Length is the length of the JSON.",
        "tensors have different numbers of rows: {'price': 2, 'photos': 1}",
    ),
    _cause(
        "malformed-tensor",
        400,
        "The elements of a tensor are not what its datatype and shape declare.",
        "Declare what is sent; GET /v2/models/{name} has the datatypes that fit best, and all numeric ones are taken.",
        "price: 2 elements are not the 3 of the shape [3]",
    ),
    _cause(
        "refused",
        (400, 415, 429),
        "The request was refused by the framework, for the reason in `detail`.",
        "Change what `detail` names; /schema has what every route takes.",
        "the request cannot be read",
    ),
    _cause(
        "no-key",
        401,
        "The service asks for API keys, and none was sent, or one that is unknown, expired or revoked.",
        "Send `Authorization: Bearer vroom_…`; `litestar keys create` makes one where the service runs.",
        "this needs an API key: send it as `Authorization: Bearer vroom_...`",
    ),
    _cause(
        "not-allowed",
        403,
        "The role of the key is not enough for this route.",
        "Use a key of the role that `detail` names; an admin makes one.",
        "this needs the role operator; 'shop' is viewer",
    ),
    _cause(
        "foreign-origin",
        403,
        "A page of another site asks from a browser.",
        "Name the site in VROOM_CORS_ORIGINS if its pages may ask.",
        "a page of https://elsewhere.example may not ask here from a browser; VROOM_CORS_ORIGINS names whose pages may",
    ),
    _cause(
        "not-found",
        404,
        "There is no such path.",
        "/schema lists what there is.",
        "/predictt: there is nothing here; /schema lists what there is",
    ),
    _cause(
        "method-not-allowed",
        405,
        "The path does not take this method.",
        "Use one of those in the header Allow.",
        "/predict does not take GET; it takes POST",
    ),
    _cause(
        "timeout",
        (408, 503),
        "408: head or body of the request did not come in time. 503: there was no answer in time.",
        "408: send it faster, or in smaller parts. 503: ask again after Retry-After; VROOM_REQUEST_SECONDS is the limit.",
        "the body did not come within 30 s",
    ),
    _cause(
        "too-large",
        413,
        "The body has more bytes than VROOM_LARGEST_BODY.",
        "Send fewer rows at a time.",
        "the body is larger than 1000000 bytes; send fewer rows at a time",
    ),
    _cause(
        "long-url",
        414,
        "The URL is longer than 8,192 bytes.",
        "Shorten the query; texts in it may be long.",
        "the URL is longer than 8192 bytes",
    ),
    _cause(
        "unsupported-type",
        415,
        "The body declares a type that the route does not read.",
        "Send JSON as application/json; /v2/models/{name}/infer takes application/octet-stream as well.",
        "Content-Type text/plain is not accepted; send application/json",
    ),
    _cause(
        "unsupported-encoding",
        415,
        "The body is compressed.",
        "Send it plain.",
        "Content-Encoding gzip is not accepted; send it plain",
    ),
    _cause(
        "unsupported-charset",
        415,
        "The body declares another encoding than UTF-8.",
        "Send UTF-8, which JSON is by definition.",
        "charset latin-1 is not accepted; send UTF-8",
    ),
    _cause(
        "too-many-requests",
        429,
        "The key has used up the rate that VROOM_RATE allows; a batch counts its rows.",
        "Ask again after Retry-After seconds.",
        "'shop' may ask for 10 predictions or pages a second; a batch counts its rows",
    ),
    _cause(
        "long-head",
        431,
        "Request line and headers together are above 32,768 bytes, or there are more than 100 headers.",
        "Send fewer or shorter headers; cookies are not needed.",
        "the request line and headers are more than 32768 bytes or 100 headers",
    ),
    _cause(
        "defect",
        500,
        "The service failed: a defect of ours.",
        "Report it with the header X-Request-Id of the answer; the log of the service has the reason under that id.",
        "the service failed on this request; its log says why",
    ),
    _cause(
        "no-proxy",
        501,
        "CONNECT asks for a proxy.",
        "Take this address out of the client's proxy settings.",
        "CONNECT is not served: this is not a proxy",
    ),
    _cause(
        "too-many-connections",
        503,
        "More connections are open than VROOM_CONNECTIONS allows, or half of them come from one address.",
        "Reuse connections; ask again after Retry-After seconds.",
        "too many connections are open; ask again",
    ),
    # Of predictions and advice.
    _cause(
        "invalid-input",
        422,
        "A field of a request is unknown, missing, or outside the range that the forecast declares.",
        "`errors` names every such field, with its row in a batch and what is `allowed`.",
        "num_images: 150 is not an integer within 0..100 photos",
    ),
    _cause(
        "unknown-entity",
        404,
        "Inputs were left out, and nothing is stored under the `entity_id` that could fill them.",
        "Send the inputs that `errors` names, or the id of an entity that is stored.",
        "nothing is stored for vehicle '8'; send technology, actual_price",
    ),
    _cause(
        "no-finite-prediction",
        422,
        "All inputs are within their ranges, and together they have no finite prediction, e.g. a ratio of extremes.",
        "Change one of the inputs that `errors` names.",
        "ln(actual_price / recommended_price) is not a finite number for actual_price = 1e-308",
    ),
    _cause(
        "no-reasons",
        422,
        "The prediction cannot be explained.",
        "Ask without `explain`; `detail` says what keeps reasons from being computed.",
        "reasons are computed for up to 513 inputs, and 600 are read",
    ),
    _cause(
        "no-such-advice",
        404,
        "The forecast declares no advice of that name.",
        "Ask one of those that `detail` lists.",
        "reservations declares no advice 'colour'; there is /advise/price",
    ),
    _cause(
        "no-advice",
        422,
        "No point of the curve that was asked for is within what training has seen.",
        "Widen `between`, or ask with `extrapolate`.",
        "no price between 900 and 950 is within the range seen in training",
    ),
    _cause(
        "no-entities",
        503,
        "What is stored of entities cannot be read.",
        "Materialize online_features again; predictions that send all inputs are answered meanwhile.",
        "online_features.db cannot be read: file is not a database; materialize online_features",
    ),
    _cause(
        "no-champion",
        503,
        "No version of the forecast serves yet.",
        "Train one, as `detail` says, or wait: a version that is published serves without a restart.",
        "no champion of lap_times serves yet; `make run FORECAST=lap_times` trains one",
    ),
    _cause(
        "expired",
        503,
        "The champion or its data are older than the forecast allows, and it refuses such answers.",
        "Bring newer data and train; GET /forecasts/{name} has both ages.",
        "version 3 of reservations has expired: the data are 90 days old",
    ),
    _cause(
        "retired",
        410,
        "The forecast was retired.",
        "Its predictions stay in the record; declare and publish it again to serve it.",
        "reservations was retired at 2026-03-01T12:00:00: nobody needs it",
    ),
    _cause(
        "not-recorded",
        503,
        "The prediction could not be recorded, so it is not answered: disk full, database away, or too many are waiting.",
        "Ask again after Retry-After seconds; see to the disk or the database if it stays.",
        "the record cannot be written; ask again",
    ),
    _cause(
        "not-ready",
        503,
        "No forecast has a champion, or the record cannot be written.",
        "Send requests elsewhere, or wait; GET /readyz says which of the two it is.",
        "no champion serves",
    ),
    # Of forecasts and their versions.
    _cause(
        "no-such-forecast",
        404,
        "No forecast of that name was ever published here.",
        "Correct the name; `detail` lists those that there are.",
        "there is no forecast 'reservation'; the forecasts are reservations, lap_times",
    ),
    _cause(
        "other-version",
        404,
        "Another version of the forecast serves than the one that was asked for.",
        "Ask for the one that serves, or name none.",
        "version 2 of reservations does not serve; version 3 does: ask for that, or name none",
    ),
    _cause(
        "no-such-version",
        404,
        "That version was never published.",
        "Choose one of those that `detail` lists.",
        "version 9 of reservations was never published; those that were: 1, 2, 3",
    ),
    _cause(
        "damaged-version",
        409,
        "The manifest of a version is not the one that was published.",
        "Restore the folder of the version from a backup; the champion that serves is not touched.",
        "champions/2/manifest.json is not the published one",
    ),
    _cause(
        "damaged-pointer",
        409,
        "The file that names the champion cannot be read.",
        "Restore it, or roll back: both write it anew. The last good champion keeps serving.",
        "champion.json cannot be read",
    ),
    # Of stored entities, operations, trials of a second version and benchmarks.
    _cause(
        "from-source",
        409,
        "The entity comes from a source of the forecast, which callers do not change.",
        "Change it in the source that `detail` names; the next materialization follows.",
        "vehicle '7' is from vehicles.csv: change it there, and the next materialization follows",
    ),
    _cause(
        "exists",
        409,
        "An entity of that id is saved already, with other inputs or tags.",
        "PUT replaces it; saving the same again changes nothing.",
        "vehicle 'van-1' is saved with other inputs or tags; PUT /vehicles/van-1 replaces it",
    ),
    _cause(
        "deleted",
        409,
        "The Idempotency-Key was used before, for an entity that was deleted since.",
        "Send another key to save a new one.",
        "vehicle 'van-1', which this Idempotency-Key made, was deleted; send another key",
    ),
    _cause(
        "no-consumer",
        503,
        "Nothing takes commands: they are carried out by Dagster, whose sensor has not asked for any.",
        "Start Dagster's daemon and code server, and see that the sensor `commands` is on; nothing was written down.",
        "no sensor has asked for commands yet: start Dagster's daemon and code server (`make run` starts both)",
    ),
    _cause(
        "unknown-command",
        404,
        "There is no command of that id.",
        "Use the id, or the header Location, that was answered when it was asked for.",
        "there is no command 01956f2c-3b5a-7c41-9a70-5d1c2f0b6e11",
    ),
    _cause(
        "nothing-published",
        409,
        "No version of the forecast was published, so there is none to go back from.",
        "Train first.",
        "lap_times: nothing was published yet",
    ),
    _cause(
        "never-published",
        404,
        "The version was never published, or is not kept any more.",
        "Choose one of those that `detail` lists.",
        "version 9 of reservations was never published; there are 1, 2, 3",
    ),
    _cause(
        "unreadable-pointer",
        409,
        "The file that names the champion is damaged, so it is not known what a roll-back would replace.",
        "Publish again; the last good champion keeps serving.",
        "reservations: the pointer is damaged",
    ),
    _cause(
        "pointer-moved",
        409,
        "Something else was decided since the generation that the request names.",
        "Read /model again and decide anew; the answer says what serves now.",
        "something else was decided meanwhile; now version 3 serves, generation 5",
    ),
    _cause(
        "pointer-is-moving",
        409,
        "A roll-back or a promotion is open, and one at a time moves the pointer.",
        "Wait for its end (GET /commands/{id}) and decide anew.",
        "reservations: a rollback is open, command 01956f2c-…; wait for its end and decide anew",
    ),
    _cause(
        "serves-already",
        409,
        "The version that was named is the one that serves.",
        "Nothing is to be done, or another version was meant.",
        "reservations: version 3 serves already",
    ),
    _cause(
        "not-loaded",
        409,
        "The version that the pointer names is not the one that this process serves, so none can be tried beside it.",
        "POST /reload, and see to what GET /health gives as `last_error`.",
        "the version that serves cannot be loaded here; now version 3 serves, generation 5",
    ),
    _cause(
        "trial-runs",
        409,
        "Another version is tried beside the one that serves, and there is one trial at a time.",
        "Stop or promote that one first.",
        "another version is tried; stop that first; now version 3 serves, generation 5",
    ),
    _cause(
        "no-trial",
        409,
        "No version is tried beside the one that serves.",
        "Start a trial first.",
        "no version is tried; now version 3 serves, generation 5, and none is tried beside it",
    ),
    _cause(
        "other-contract",
        409,
        "The version takes other inputs or forecasts something else, so it cannot answer the same requests.",
        "Promote it instead of trying it, once callers send what it takes.",
        "version 4: it has other inputs; nothing has changed",
    ),
    _cause(
        "no-record",
        409,
        "A version in shadow is compared by recorded predictions, and none are recorded.",
        "Start the service with VROOM_RECORD=on, or let the version answer a share.",
        "VROOM_RECORD is off: a version in shadow is compared by recorded predictions",
    ),
    _cause(
        "too-many-listeners",
        503,
        "As many streams of events are open as the service keeps.",
        "Close those that nobody reads; ask again with `Last-Event-ID`, and nothing is lost.",
        "100 listen already; ask again, with `Last-Event-ID` nothing is lost",
    ),
    _cause(
        "benchmark-runs",
        409,
        "Another benchmark runs, and two would measure each other.",
        "Ask again after Retry-After seconds.",
        "a benchmark runs already",
    ),
    _cause(
        "not-measured",
        503,
        "The benchmark could not reach the service at its own address.",
        "Name an address that the service answers for in the header Host.",
        "the service could not be asked at its own address: connection refused",
    ),
    # Of the record, outcomes, alerts and keys.
    _cause(
        "no-database",
        503,
        "The serving database does not answer.",
        "See to the database that VROOM_DATABASE_URL names; ask again after Retry-After seconds.",
        "the serving database does not answer; the service's log says why, VROOM_DATABASE_URL names it",
    ),
    _cause(
        "record-unavailable",
        503,
        "The database of the record does not answer, or was locked for too long.",
        "Ask again after Retry-After seconds.",
        "the database of the record does not answer; ask again",
    ),
    _cause(
        "unknown-prediction",
        404,
        "The record has no prediction of that id.",
        "Use the `prediction_id` of an answer; VROOM_RECORD_DAYS may have ended its time.",
        "there is no prediction 01890000-0000-7000-8000-000000000000 in the record",
    ),
    _cause(
        "not-verified",
        409,
        "The prediction is in the record, and something behind it is not as it was.",
        "`failed` and `steps` say what: restore the file that has changed.",
        "the snapshot of reservations has another digest",
    ),
    _cause(
        "parquet-unavailable",
        501,
        "Parquet needs pyarrow, which is not installed beside the service.",
        "Ask for CSV, or install pyarrow.",
        "Parquet needs pyarrow, which is not installed here; ask for csv",
    ),
    _cause(
        "invalid-outcome",
        422,
        "What was reported is not an outcome that can be, or not of a forecast that there is.",
        "Correct the field that `errors` names.",
        "value: 0.5 is not an outcome of reservations; it is a whole number, at least 0",
    ),
    _cause(
        "other-value",
        409,
        "Another value was reported of the same subject before.",
        "Report it with `correction` if the earlier one was wrong.",
        "prediction 01890000-0000-7000-8000-000000000000 has the outcome 3; send correction: true to change it",
    ),
    _cause(
        "unknown-alert",
        404,
        "There is no alert of that id.",
        "GET /alerts lists those that there are.",
        "there is no alert 7",
    ),
    _cause(
        "unknown-key",
        404,
        "There is no API key of that name or id.",
        "GET /keys lists them.",
        "there is no key 'shop'",
    ),
    _cause(
        "unknown-problem",
        404,
        "No problem has that type.",
        "GET /problems lists them.",
        "there is no problem 'invalid' (did you mean invalid-input?)",
    ),
)
CAUSES: Final = {cause.type.rpartition(":")[2]: cause for cause in _LISTED}
