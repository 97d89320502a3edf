"""A causal language model as a scorer: how probable it finds each option after the prompt.

An option's score is the sum of the log-probabilities of its tokens given the rendered prompt. The
prompt is computed once per text; its keys and values are shared by all options, which follow as one
batch. Where options are listed in the prompt, a model prefers some places in the list; `orders=2`
averages the probabilities over the list as given and reversed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freehold.errors import InputError, IntegrityError
from freehold.runtimes.answers import estimate, probabilities
from freehold.runtimes.base import Question, Scored, ScoredBatch, collect
from freehold.runtimes.batching import in_parallel
from freehold.runtimes.formats import refuse_unsafe
from freehold.runtimes.prompts import TEMPLATE, Continuation, continuations, prompt_for
from freehold.runtimes.torch_stack import Placement, load_pretrained, merge_adapter

if TYPE_CHECKING:
    from freehold.runtimes.answers import Matrix

_OPTION_BATCH_TOKENS = 32_768


@dataclass(frozen=True, slots=True)
class Asking:
    """Whether options are listed in the prompt, and over how many orders of them to average."""

    list_options: bool = False
    orders: int = 1

    def __post_init__(self) -> None:
        """Refuse orders of a list that is not shown."""
        if self.orders not in (1, 2) or (self.orders == 2 and not self.list_options):
            raise InputError("orders is 1, or 2 where list_options is true")


class CausalModel:
    """A loaded causal language model with its tokenizer."""

    def __init__(
        self, directory: Path, placement: Placement | None = None, adapter: Path | None = None
    ) -> None:
        """Load the model in `directory`, with a PEFT adapter merged into it if one is given."""
        from tokenizers import Tokenizer

        refuse_unsafe(directory)
        self.placement = placement or Placement()
        self.model = load_pretrained(directory, "AutoModelForCausalLM", self.placement)
        if adapter is not None:
            self.model = merge_adapter(self.model, adapter)
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise IntegrityError(f"{path} is missing: save the fast tokenizer beside the weights")
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.context = int(self.model.config.max_position_embeddings)
        end = self.model.config.eos_token_id
        self.end: int | None = end[0] if isinstance(end, list) else end

    def prompt_ids(self, text: str) -> list[int]:
        """Return a prompt's token ids, with the tokens that the tokenizer sets before a text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=True).ids
        return ids

    def bare_ids(self, text: str) -> list[int]:
        """Return a text's token ids without special tokens."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def generate(self, prompt: str, max_new_tokens: int) -> str:
        """Return prompt and greedy continuation as text: at each step the most probable token."""
        import torch

        ids = self.prompt_ids(prompt)
        if len(ids) + max_new_tokens > self.context:
            raise InputError(
                f"{len(ids)} prompt tokens and {max_new_tokens} new ones exceed the model's "
                f"context of {self.context}"
            )
        cache, step = None, torch.tensor([ids], device=self.placement.device)
        with self.placement.one_thread_per_batch(), torch.inference_mode():
            for _ in range(max_new_tokens):
                output = self.model(input_ids=step, past_key_values=cache, use_cache=True)
                token = int(output.logits[0, -1].argmax())
                if token == self.end:
                    break
                ids.append(token)
                cache, step = output.past_key_values, torch.tensor([[token]], device=step.device)
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def log_likelihoods(self, prompt: list[int], follow: Sequence[Continuation]) -> list[float]:
        """Return the log-probability (nats) of each continuation's scored tokens after a prompt."""
        import torch

        results: list[float] = []
        longest = max(len(one.ids) for one in follow)
        rows = max(1, _OPTION_BATCH_TOKENS // (len(prompt) + longest))
        device = self.placement.device
        with torch.inference_mode():
            tokens = torch.tensor([prompt], device=device)
            output = self.model(input_ids=tokens, use_cache=True, logits_to_keep=1)
            first = output.logits.float().log_softmax(-1)
            for start in range(0, len(follow), rows):
                some = follow[start : start + rows]
                results += self._follow(output.past_key_values, first, some, longest)
        return results

    def _follow(
        self, prompt_cache: Any, first: Any, follow: Sequence[Continuation], longest: int
    ) -> list[float]:
        """Score continuations that share a prompt; padding stands right, where nothing sees it."""
        import copy

        import torch

        padded = [[*one.ids, *([one.ids[-1]] * (longest - len(one.ids)))] for one in follow]
        tokens = torch.tensor(padded, device=first.device)
        logs = first.expand(len(follow), -1, -1)
        if longest > 1:
            cache = copy.deepcopy(prompt_cache)
            cache.batch_repeat_interleave(len(follow))
            output = self.model(input_ids=tokens[:, :-1], past_key_values=cache, use_cache=True)
            logs = torch.cat((logs, output.logits.float().log_softmax(-1)), dim=1)
        chosen = logs.gather(2, tokens.unsqueeze(-1)).squeeze(-1).double()
        place = torch.arange(longest, device=first.device)
        ends = torch.tensor([len(one.ids) for one in follow], device=first.device)
        starts = torch.tensor([one.score_from for one in follow], device=first.device)
        scored = (place >= starts[:, None]) & (place < ends[:, None])
        sums: list[float] = torch.where(scored, chosen, 0.0).sum(dim=1).tolist()
        return sums


class CausalScorer:
    """Option log-likelihoods as probabilities; not calibrated, and they say so."""

    def __init__(
        self, model: CausalModel, question: Question, asking: Asking | None = None
    ) -> None:
        self._model = model
        self._question = question
        self._asking = asking or Asking()
        self._follow = continuations(question, model.bare_ids, model.end)

    def stream(self, texts: Sequence[str]) -> Iterator[ScoredBatch]:
        """Yield one answer at a time, in input order."""
        placement = self._model.placement

        def work(position: int) -> ScoredBatch:
            scored, tokens = self._score(texts[position])
            execution = placement.execution(len(self._follow), tokens)
            return ScoredBatch((position,), (scored,), execution)

        with placement.one_thread_per_batch():
            yield from in_parallel(range(len(texts)), work, placement.workers)

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Return one answer per text, in input order."""
        return collect(self.stream(texts), len(texts))

    def describe(self) -> dict[str, Any]:
        """Return what identifies this way of scoring."""
        return {
            "runtime": "transformers/causal-1",
            "template": TEMPLATE,
            "list_options": self._asking.list_options,
            "orders": self._asking.orders,
            **self._model.placement.describe(),
        }

    def _score(self, text: str) -> tuple[Scored, int]:
        import numpy as np

        options = self._question.options
        orders = (options, options[::-1])[: self._asking.orders]
        shares, tokens = [], 0
        for order in orders:
            shown = order if self._asking.list_options else ()
            prompt = self._model.prompt_ids(prompt_for(self._question, text, shown))
            needed = len(prompt) + max(len(one.ids) for one in self._follow)
            if needed > self._model.context:
                reason = f"prompt and option need {needed} tokens, the model reads "
                return Scored.failed(
                    f"{reason}{self._model.context}", tokens_in=len(prompt)
                ), needed
            shares.append(self._shares(prompt))
            tokens += len(prompt)
        row = np.mean(shares, axis=0).tolist()
        if not np.isfinite(row).all():
            reason = "the model's numbers are not finite"
            return Scored.failed(reason, tokens_in=tokens), tokens // len(orders)
        value = estimate(self._question, row)
        return Scored(tuple(row), value=value, tokens_in=tokens), tokens // len(orders)

    def _shares(self, prompt: list[int]) -> Matrix:
        import numpy as np

        logs = np.array(self._model.log_likelihoods(prompt, self._follow))
        if self._question.kind == "labels":
            yes_no = logs.reshape(-1, 2)
            logs = yes_no[:, 0] - yes_no[:, 1]
        shares: Matrix = probabilities(logs[None, :], self._question.kind)[0]
        return shares
