"""A training in a process of its own, watched from here: whoever started it stays free, and can stop it."""

import copy
import multiprocessing
import pickle
import queue
import time

from bsaviz._checks import BsavizError
from bsaviz.training.checkpoint import load_model
from bsaviz.training.loop import train

GRACE = 20.0  # seconds a stopped process gets to write its checkpoint


class TrainingWorker:
    """:func:`bsaviz.training.train` in a new process.

    Parameters
    ----------
    model, train_cars, test_cars, config
        As for `train`. The model given is not trained: the trained one is in the checkpoint, see :meth:`model`.
    checkpoint : str or Path
        As for `train`; written at a stop, too.
    resume : str or Path, optional

    Attributes
    ----------
    state : {"starting", "training", "stopping", "stopped", "finished", "failed"}
    saved : int or None
        Step of the newest checkpoint.
    result : TrainResult or None
        Of a training that has finished.
    error : str or None
        Of one that has failed.
    """

    def __init__(self, model, train_cars, test_cars, config, checkpoint, *, resume=None):
        context = multiprocessing.get_context("spawn")
        self.checkpoint, self.state = checkpoint, "starting"
        self.saved = self.result = self.error = None
        # As bytes: torch would send tensors as shared memory, and the caller's own model would be trained.
        work = pickle.dumps((copy.deepcopy(model).cpu(), list(train_cars), test_cars, config, checkpoint, resume))
        self._begun, self._stop = context.Event(), context.Event()
        self._work, self._news = context.Queue(), context.Queue()
        ends = (self._work, self._begun, self._stop, self._news)
        self._process = context.Process(target=_train, args=ends, daemon=True)
        self._process.start()
        # By the queue's thread: an argument would hold the caller up until the process has loaded its libraries.
        self._work.put(work)
        self._work.cancel_join_thread()  # a process that was stopped early never takes it

    @property
    def running(self):
        """Whether the process is still at work on the training."""
        return self.state in ("starting", "training", "stopping")

    def news(self):
        """What :func:`train` told its watcher since the last call: a list of dicts, oldest first."""
        alive, told = self._process.is_alive(), []
        while self.running:  # nothing is read after the end: a process that was ended may leave half a message
            try:
                kind, content = self._news.get_nowait()
            except queue.Empty:
                break
            if kind == "watch":
                told.append(content)
                self._note(content)
            elif kind == "finished":
                self.state, self.result = "finished", content
            else:
                self.state, self.error = "failed", content
        if self.running and not alive and not told:
            self.state = "failed"
            self.error = f"the training process ended with exit status {self._process.exitcode}"
        return told

    def stop(self):
        """Ask for a stop; the layer under way is finished, and the checkpoint of the last whole step written.

        Before the first step there is nothing to write, and the process ends at once.
        """
        if not self.running:
            return
        if self._begun.is_set():
            self.state = "stopping"
            self._stop.set()
        else:
            self.state = "stopped"
            self._process.terminate()

    def wait(self, seconds=None):
        """Follow it until it ends, or for so long; returns what was told meanwhile."""
        end, told = None if seconds is None else time.monotonic() + seconds, []
        while self.running and (end is None or time.monotonic() < end):
            told += self.news()
            time.sleep(0.02)
        return told

    def close(self):
        """End the process, with a checkpoint where it was training."""
        if self.running:
            self.stop()
            self.wait(GRACE)
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(GRACE)
        self._news.close()
        self._work.close()

    def model(self, device=None):
        """The model of the newest checkpoint."""
        if self.saved is None:
            raise BsavizError(
                "there is no checkpoint yet; wait for the first step, then for a checkpoint, or stop the training"
            )
        return load_model(self.checkpoint, device)

    def _note(self, content):
        if self.state == "starting":
            self.state = "training"
        if "saved" in content:
            self.saved = content["saved"]
            if content["last"] and self.state == "stopping":  # it would only measure the test cars
                self.state = "stopped"
                self._process.terminate()


def _train(work, begun, stop, news):
    """What the process runs."""
    model, train_cars, test_cars, config, checkpoint, resume = pickle.loads(work.get())  # noqa: S301  our own bytes

    def watch(content):
        begun.set()
        news.put(("watch", content))

    try:
        result = train(
            model, train_cars, test_cars, config, progress=False, checkpoint=checkpoint, resume=resume,
            should_stop=stop, watch=watch,
        )  # fmt: skip
        news.put(("finished", result))
    except BsavizError as error:
        news.put(("failed", str(error)))
    except Exception as error:  # noqa: BLE001  it has nobody else to tell
        news.put(("failed", f"{type(error).__name__}: {error}"))
