"""The training loop, top to bottom.

All that is random is a function of (seed, step): resuming needs weights, optimiser state and the step's number, no
generator's state. With ``accumulate`` the microbatches of a step are contrasted each within itself (more samples per
step, not more negatives); ``cached_chunk`` contrasts the whole batch with the memory of a chunk.
"""

import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from genview import atomic, loading, placement, process, progress, provenance, randomness, usage
from genview.encoders import lora, save
from genview.errors import GenviewError
from genview.training import assembly, card, collapse, job, schedule
from genview.training.data import composition
from genview.training.data.batch import Batch
from genview.training.data.samples import Order, loader
from genview.training.loop import batchnorm, checkpoint, monitors, operations, optimizers
from genview.training.loop.distributed import mean_over_processes
from genview.training.loop.metrics import Metrics, Throughput
from genview.training.loop.step import Stepper
from genview.training.loop.stopping import Verdict
from genview.training.methods.method import Residue, Step, Terms

logger = logging.getLogger("genview")


class Trainer:
    """One run in one process; ``train`` is the loop."""

    def __init__(self, what: job.Job):
        run = what.run
        self.job, self.run = what, run
        precision = placement.precision(run.precision, placement.default(), f"run {what.name}")
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="no" if precision == "fp32" else precision,
            kwargs_handlers=[
                # Buffers are equal on all processes, or each process's own on purpose.
                DistributedDataParallelKwargs(
                    find_unused_parameters=run.method.gradients_vary(run.epochs), broadcast_buffers=False
                )
            ],
        )
        self.device = self.accelerator.device
        self.rank, world_size = self.accelerator.process_index, self.accelerator.num_processes
        if world_size != run.world_size:
            raise GenviewError(
                f"run {what.name} is for {run.world_size} processes (gpus_per_node x nodes), but {world_size} were "
                "started; the batch, its negatives and its quality weights would be others, so it is not run"
            )
        self.identity = job.identity(what, what.code or provenance.code_digest("genview.training.__main__"))
        if self.accelerator.is_main_process:
            assembly.prepare(what)
        self.accelerator.wait_for_everyone()
        self.assembly = assembly.assemble(what, self.device)
        self.identity["data"] |= self.assembly.made_of
        self.order = Order(
            len(self.assembly.samples),
            run.batch_size,
            run.accumulate,
            world_size,
            randomness.seed("order", self.assembly.seed),
        )
        self.total_steps = run.epochs * self.order.steps_per_epoch
        self.method = self.assembly.method.to(self.device)
        if self.method.synchronised:
            self.method = batchnorm.synchronised(self.method, self.device)
        if run.compile:
            for network in self.method.networks():
                network.visual.trunk.compile()
        self.average = None
        if run.ema:
            self.average = AveragedModel(
                self.method.model, multi_avg_fn=get_ema_multi_avg_fn(run.ema), use_buffers=True
            )
        optimizer = optimizers.build(run.optimizer, self.method)
        self.peak = run.optimizer.base_learning_rate
        if run.optimizer.scale_learning_rate:
            self.peak = schedule.peak_learning_rate(
                self.peak,
                images=composition.images_per_sample(run.data) if run.method.name == "genviewpp" else 2,
                crops=run.data.crops if run.method.name == "genviewpp" else 1,
                global_batch=self.order.samples_per_step,
            )
        if self.assembly.watched and self.accelerator.is_main_process:
            self.assembly.watched.begin(self.method.exported(), self.device)
        self.codes: list[list[Any]] = []
        self.first_step = self._resume(optimizer)
        wrapped, self.optimizer = self.accelerator.prepare(self.method, optimizer)
        self.stepper = Stepper(run, self.accelerator, self.method, wrapped, self.optimizer)
        self.collapsed = False
        self.verdict = Verdict(self.device)

    def train(self) -> None:
        """Go on from the newest checkpoint to the end, and export the model.

        Raises:
            Stopped: the run was asked to stop; a checkpoint was saved.
            GenviewError: the loss is not finite.
        """
        self._open_logs()
        self.method.train()
        with process.on_warning(self.verdict.ask):
            self._steps()
            self.verdict.settle()
            self._save(self.total_steps)
        self._finish()

    def _steps(self) -> None:
        run, order = self.run, self.order
        batches = loading.ahead(
            loader(
                self.assembly.samples,
                order,
                rank=self.rank,
                first_step=self.first_step,
                last_step=self.total_steps,
                workers=run.data.workers,
                on_gpu=self.device.type == "cuda",
            ),
            self.device,
        )
        with self._progress() as bar:
            for step in range(self.first_step, self.total_steps):
                at = Step(step, self.total_steps, order.steps_per_epoch)
                torch.manual_seed(randomness.seed("step", self.assembly.seed, step, self.rank))
                rate = schedule.learning_rate(
                    step / order.steps_per_epoch,
                    epochs=run.epochs,
                    warmup_epochs=run.optimizer.warmup_epochs,
                    peak=self.peak,
                    minimum=run.optimizer.minimum_learning_rate,
                )
                optimizers.adjust(
                    self.optimizer, run.optimizer, rate=rate, peak=self.peak, progress=step / self.total_steps
                )
                microbatches = self._fetch(batches)
                terms, residues = self.stepper.gradients(microbatches, at)
                keys = [key for batch in microbatches for key in batch.keys]
                stop = self.verdict.record(step + 1, keys, terms["loss"])
                norm = self.stepper.update(at, residues, measured=self._logs(step + 1))
                if self.average is not None:
                    self.average.update_parameters(self.method.model)
                self._log(step + 1, rate, terms, microbatches, residues, norm)
                bar.update()
                done = step + 1
                if stop or done % run.checkpoints.every_steps == 0 or self._ends_kept_epoch(done):
                    stop = self.verdict.settle() or stop
                    self._save(done)
                if stop and done < self.total_steps:
                    raise process.Stopped(
                        f"stopped at step {done} of {self.total_steps}; the same command goes on from there"
                    )

    def _fetch(self, batches: Iterator[Batch]) -> list[Batch]:
        """The microbatches of one step, on the device, with their views made."""
        start = time.perf_counter()
        microbatches = [next(batches) for _ in range(self.run.accumulate)]
        self.throughput.waited(time.perf_counter() - start)
        return [batch.developed() for batch in microbatches]

    def _logs(self, step: int) -> bool:
        return step % self.run.log_every_steps == 0 or step == self.total_steps

    def _log(
        self,
        step: int,
        rate: float,
        terms: Terms,
        microbatches: list[Batch],
        residues: list[Residue],
        norm: torch.Tensor | None,
    ) -> None:
        samples = self.order.samples_per_step
        self.throughput.step(samples, samples * microbatches[0].count)
        if not self._logs(step):
            return
        values = {name if name == "loss" else f"{name}_loss": float(term) for name, term in terms.items()}
        values["fallbacks"] = float(sum(batch.fallbacks for batch in microbatches))
        values = mean_over_processes(values, self.device) | monitors.measure(residues, norm)
        if not self.accelerator.is_main_process:
            return
        if hasattr(self.method.model, "logit_scale") and self.run.uses_text:
            values["logit_scale"] = float(self.method.model.logit_scale.detach().exp())
        watched = self.assembly.watched
        if watched and watched.due(step, self.total_steps, self.order.steps_per_epoch, self.run.log_every_steps):
            model = self.method.exported() if self.average is None else self.average.module
            values |= watched.measure(model, self.device)
        self._watch_for_collapse(step, values)
        # The next step refuses a loss that is not finite; a line that is not JSON would be left behind here.
        if all(map(_finite, values.values())):
            self.metrics.write(step, {"epoch": step / self.order.steps_per_epoch, "learning_rate": rate, **values})
        memory = {}
        if self.device.type == "cuda":
            memory["peak_memory_bytes"] = torch.cuda.max_memory_allocated(self.device)
        self.throughput.write(step, **memory)

    def _watch_for_collapse(self, step: int, values: dict[str, float]) -> None:
        if collapse.collapsed(values) and not self.collapsed:
            logger.warning(
                "run %s has collapsed at step %d: all samples have nearly the same projection (spread %.2g, a run that "
                "learns has about 1); try a smaller learning rate or the method's published settings",
                self.job.name,
                step,
                values["projection_spread"],
            )
        self.collapsed = collapse.collapsed(values)

    # Checkpoints

    def _resume(self, optimizer: torch.optim.Optimizer) -> int:
        """Load the newest checkpoint of this run, if any; returns the number of steps done."""
        root = Path(self.job.checkpoints)
        with self.accelerator.main_process_first():
            found = checkpoint.resume(root, self.identity, self.run.checkpoints.accept)
        if found is None:
            return 0
        self.method.load_state_dict(found.tensors["method"])
        optimizer.load_state_dict(checkpoint.join_optimizer(found.tensors["optimizer"], found.values["optimizer"]))
        if self.average is not None:
            self.average.load_state_dict(found.tensors["average"])
        if found.values.get("scaler") and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(found.values["scaler"])
        self.codes = found.values.get(checkpoint.CODES, [])
        logger.info("going on from step %d of %d", found.step, self.total_steps)
        return found.step

    def _save(self, step: int) -> None:
        if self.accelerator.is_main_process and step > self.first_step:
            tensors, values = checkpoint.split_optimizer(self.optimizer.state_dict())
            groups = {"method": self.method.state_dict(), "optimizer": tensors}
            if self.average is not None:
                groups["average"] = self.average.state_dict()
            epoch, rest = divmod(step, self.order.steps_per_epoch)
            scaler = self.accelerator.scaler
            state = checkpoint.Checkpoint(
                step=step,
                epoch=epoch,
                finished=step == self.total_steps,
                identity=self.identity,
                tensors=groups,
                values={
                    "optimizer": values,
                    "ends_epoch": epoch if rest == 0 else None,
                    "scaler": scaler.state_dict() if scaler is not None else None,
                    **({checkpoint.CODES: self.codes} if self.codes else {}),
                },
            )
            checkpoint.save(Path(self.job.checkpoints), state, self.run.checkpoints)
        self.accelerator.wait_for_everyone()

    def _ends_kept_epoch(self, step: int) -> bool:
        epoch, rest = divmod(step, self.order.steps_per_epoch)
        return rest == 0 and epoch in self.run.checkpoints.keep_epochs

    # Logs and the end

    def _open_logs(self) -> None:
        logs = Path(self.job.logs)
        name = "throughput.jsonl" if self.rank == 0 else f"throughput-{self.rank}.jsonl"
        self.throughput = Throughput(logs / name, self._peak_samples())
        if self.accelerator.is_main_process:
            unfinished = Path(self.job.checkpoints) / "metrics.jsonl"
            self.metrics = Metrics(unfinished, logs / "tensorboard", self.first_step)

    def _peak_samples(self) -> float | None:
        """Samples per second at which the peak of all processes' devices would be reached."""
        peak = usage.peak(self.device, half=self.run.precision != "fp32")
        if peak is None:
            return None
        each = operations.of_a_sample(self.method.eval(), self.assembly.samples, self.device)
        return peak * self.accelerator.num_processes / each if each else None

    def _progress(self):
        return progress.bar(
            f"train {self.job.name}",
            total=self.total_steps,
            initial=self.first_step,
            unit="step",
            silent=not self.accelerator.is_main_process,
        )

    def _finish(self) -> None:
        if self.accelerator.is_main_process:
            self.metrics.close()
            record = {
                **self.identity,
                **({checkpoint.CODES: self.codes} if self.codes else {}),
                "images": len(self.assembly.samples),
                "views_per_sample": composition.views_per_sample(self.run.data),
                "missing_views": self.assembly.missing_views,
                "steps": self.total_steps,
                "samples_per_step": self.order.samples_per_step,
                "peak_learning_rate": self.peak,
                "parameters": sum(p.numel() for p in self.method.model.parameters()),
                "trained_parameters": sum(p.numel() for p in self.method.model.parameters() if p.requires_grad),
                "collapsed": self.collapsed,
                **self.method.record(),
            }
            self._export(Path(self.job.model), record)
            for epoch in self.run.checkpoints.keep_epochs:
                self._export_kept(epoch, record)
            with atomic.writing(self.job.metrics) as partial:
                shutil.copyfile(Path(self.job.checkpoints) / "metrics.jsonl", partial)
            Path(self.job.index).unlink()
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()

    def _export(self, target: Path, record: dict[str, Any]) -> None:
        trained = lora.merged(self.method.exported() if self.average is None else self.average.module)
        architecture = self.assembly.architecture
        readme = card.text(self.job, architecture, record)
        save.write(target, trained, architecture, record=record, card=readme)

    def _export_kept(self, epoch: int, record: dict[str, Any]) -> None:
        """The model as it was after an epoch, from its checkpoint; the finished one is exported already."""
        step = epoch * self.order.steps_per_epoch
        folder = Path(self.job.checkpoints) / f"step-{step:08d}"
        if not folder.is_dir():
            logger.warning("no checkpoint of epoch %d (checkpoints.keep_epochs): its model is not exported", epoch)
            return
        found = checkpoint.load(folder)
        self.method.load_state_dict(found.tensors["method"])
        if self.average is not None:
            self.average.load_state_dict(found.tensors["average"])
        self._export(Path(self.job.model).parent / "epochs" / str(epoch) / "model", {**record, "steps": step})


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


def train(what: job.Job) -> None:
    """Train one run, from the newest checkpoint of this very run if there is one.

    Raises:
        Stopped: the run was asked to stop (SIGTERM, SIGUSR1); a checkpoint was saved.
        GenviewError: settings changed under an unfinished run, data are missing, or the loss is not finite.
    """
    Trainer(what).train()
