"""The one tree of errors.

Every class has a stable ``code`` (for programs), an ``exit_code`` (for shells), an
``http_status`` (for the gateway and the web app) and a ``hint`` that says what to do next.
They are rendered in two places only: ``cli.render`` for the terminal, ``as_json`` for machines.

    FreeholdError
    ├── InputError            what the user gave cannot be used           exit 2, HTTP 400
    │   ├── RowError          one row of a file: file, line, field
    │   ├── SettingsError     lab.toml, a task, a recipe, a gate: unknown key, bad value
    │   └── NotFound          no such thing in this lab                   exit 3, HTTP 404
    ├── Conflict              it would contradict what is recorded        exit 4, HTTP 409
    ├── Refused               a rule says no: policy, licence, gate       exit 5, HTTP 403
    │   ├── UnsafeModel       pickles, remote code, links out of the tree
    │   ├── LicenceRefused    no licence record, or its verdict is no
    │   ├── PermitDenied      the policy does not let this data go there
    │   └── GateRefused       no passing verdict, or no valid approval
    ├── IntegrityError        evidence and state disagree                 exit 6, HTTP 500
    │   └── ForkDetected      two histories under one log key
    ├── LabError              the lab cannot be opened or written         exit 7, HTTP 503
    │   ├── NewerLab          written by a newer version
    │   ├── ReadOnlyLab       no permission to write
    │   ├── LabBusy           another process holds what is needed
    │   └── StorageFull       no space left
    ├── EngineError           a model or engine failed                    exit 8, HTTP 502
    ├── MissingExtra          an optional part is not installed           exit 9, HTTP 501
    └── Cancelled             stopped on request; work done so far is kept exit 130, HTTP 499
"""

from __future__ import annotations

from typing import Any, ClassVar


class FreeholdError(Exception):
    """Base of every error a user can meet. ``message`` says what and where; ``hint`` what to do."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    default_hint: ClassVar[str] = "Run `freehold doctor` and see docs/reference/errors.md."

    def __init__(self, message: str, *, hint: str | None = None, **where: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.where = {key: value for key, value in where.items() if value is not None}

    def as_json(self) -> dict[str, Any]:
        """Return the one JSON shape of an error, on the command line and over HTTP."""
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "hint": self.hint,
                "where": self.where,
            }
        }


class InputError(FreeholdError):
    """What the user gave cannot be used."""

    code = "input"
    exit_code = 2
    http_status = 400
    default_hint = "Correct the input and run the same command again; nothing was changed."


class RowError(InputError):
    """One row of a file cannot be used. ``where`` holds file, line and field."""

    code = "input.row"
    default_hint = "Correct this row, or leave out --strict to go on with the others."


class SettingsError(InputError):
    """A TOML file that people write has an unknown key or a bad value."""

    code = "input.settings"
    default_hint = "Correct the file; docs/reference lists every key with its meaning and default."


class NotFound(InputError):
    """No such thing in this lab."""

    code = "not_found"
    exit_code = 3
    http_status = 404
    default_hint = "List what is there with the matching `list` command."


class Conflict(FreeholdError):
    """It would contradict what is already recorded."""

    code = "conflict"
    exit_code = 4
    http_status = 409
    default_hint = "Records are never edited in place; add a new version or choose another name."


class Refused(FreeholdError):
    """A rule says no."""

    code = "refused"
    exit_code = 5
    http_status = 403
    default_hint = "The message names the rule; change the input or, on the record, the rule."


class UnsafeModel(Refused):
    """The model directory holds something that could run code or escape from its folder."""

    code = "refused.unsafe_model"
    default_hint = "Convert the weights to safetensors in a separate step and add that folder."


class LicenceRefused(Refused):
    """No licence record, or its verdict under the lab's policy is no."""

    code = "refused.licence"
    default_hint = "Put the licence text beside the weights, or name it: `freehold models licence`."


class PermitDenied(Refused):
    """The policy does not let this data go to that engine."""

    code = "refused.permit"
    default_hint = "Use a local model, or declare in the policy what may leave."


class GateRefused(Refused):
    """No passing verdict, or no valid approval by another person."""

    code = "refused.gate"
    default_hint = "Read the gate's report; more reviews, a better candidate, or an approver."


class IntegrityError(FreeholdError):
    """Evidence and state disagree: something was altered, lost or cut."""

    code = "integrity"
    exit_code = 6
    default_hint = "Stop writing, keep a copy of the lab, and compare with a backup or a witness."


class ForkDetected(IntegrityError):
    """Two different histories were signed with one log key."""

    code = "integrity.fork"
    default_hint = "Keep both checkpoints: together they prove the fork. Ask the lab's operator."


class LabError(FreeholdError):
    """The lab cannot be opened or written."""

    code = "lab"
    exit_code = 7
    http_status = 503
    default_hint = "Run `freehold doctor` in the lab."


class NewerLab(LabError):
    """The lab was written by a newer version of Freehold."""

    code = "lab.newer"
    default_hint = "Install the version named in the message; the lab was not touched."


class ReadOnlyLab(LabError):
    """The lab may be read but not written."""

    code = "lab.read_only"
    default_hint = "Give this user write permission to the lab, or work on a copy."


class LabBusy(LabError):
    """Another process holds what is needed."""

    code = "lab.busy"
    default_hint = "Wait for the other process, or see who holds the lease with `freehold status`."


class StorageFull(LabError):
    """No space is left where the lab lives. What was acknowledged before is safe."""

    code = "lab.storage_full"
    default_hint = "Free some space and run the same command again; it goes on where it stopped."


class EngineError(FreeholdError):
    """A model or an engine failed."""

    code = "engine"
    exit_code = 8
    http_status = 502
    default_hint = "The decision is recorded as failed; run again to retry what failed."


class MissingExtra(FreeholdError):
    """An optional part is not installed."""

    code = "missing_extra"
    exit_code = 9
    http_status = 501
    default_hint = 'Install it, for example: pip install "freehold[local]".'


class Cancelled(FreeholdError):
    """Stopped on request; work done so far is kept."""

    code = "cancelled"
    exit_code = 130
    http_status = 499
    default_hint = "Run the same command again to go on."
