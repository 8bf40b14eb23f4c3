"""``python -m genview.training.agent``: torchrun that ends with the job that started it."""

import os

from torch.distributed.run import main

from genview import process

if __name__ == "__main__":
    process.end_with_starter()
    os.environ.update(process.as_starter({}))
    main()
