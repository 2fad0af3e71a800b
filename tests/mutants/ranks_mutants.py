"""Mistakes in jobs of several ranks, which their tests must notice."""

TOOLS = "test_tools"
ENGINE = "test_engine"
# Without their numbers: a comma divides filters.
CURVE = "*compute the same curve"
BITS = "*have the same bits with parallel.reproducible"
RESUMED = "ranks: a checkpoint of 4 goes on*"
GPU_CURVE = "ranks on emulated GPUs: 2 and 3*"
GPU_ALONE = "ranks on emulated GPUs: without mpirun*"

# name, test program, Catch2's filter, file, text that occurs once, what it becomes
RANKS_MISTAKES = [
    ("ranks: a bucket is not summed", TOOLS, CURVE, "engine/step_gradient.cpp",
     "BucketDone([this](int bucket) { reduce(bucket); })", "BucketDone()"),
    ("ranks: the loss is not summed", TOOLS, CURVE, "engine/step_gradient.cpp",
     "  communicator_.sum(model_.ops().step_losses());\n", ""),
    ("ranks: stds are not summed", TOOLS, CURVE, "engine/step_gradient.cpp",
     "  if (removal_.tracks()) communicator_.sum(model_.norm_std_sums());\n", ""),
    ("ranks: a node of the tree adds its own half twice", TOOLS,
     "train: a reproducible run repeats*", "engine/step_gradient.cpp",
     "model_.ops().add(tree_[buffer], tree_[buffer], tree_[buffer + 1]);",
     "model_.ops().add(tree_[buffer], tree_[buffer], tree_[buffer]);"),
    ("ranks: the tree's root stays with the first rank", TOOLS, BITS, "engine/step_gradient.cpp",
     "    communicator_.broadcast(tree_[0], 0);\n", ""),
    ("ranks: a shard's stds are kept with the next shard's", TOOLS, BITS, "engine/shard_sums.cpp",
     "  model_.zero_norm_stds();\n", ""),
    ("ranks: a share's squares count for all", TOOLS, CURVE, "engine/optimizer.cpp",
     "  communicator_.sum(share_partials_);\n", ""),
    ("ranks: updated weights stay with their rank", TOOLS, CURVE, "engine/optimizer.cpp",
     "  if (!sharded()) return;\n  for (const Bucket& bucket : model_.buckets()) {\n"
     "    communicator_.gather_parts(\n        model_.values()",
     "  if (sharded()) return;\n  for (const Bucket& bucket : model_.buckets()) {\n"
     "    communicator_.gather_parts(\n        model_.values()"),
    ("ranks: masters are saved as one rank has them", TOOLS, RESUMED, "engine/optimizer.cpp",
     "  copy_masters(model_.gradients(), true);\n", ""),
    ("ranks: masters are not taken from a checkpoint", TOOLS, RESUMED, "engine/checkpoint.cpp",
     "  optimizer.keep_masters();\n", ""),
    ("ranks: moments are read from the file's beginning", TOOLS, RESUMED, "engine/checkpoint.cpp",
     "    place += range.count();\n", ""),
    ("ranks: the last one leaves the rest", ENGINE, "own_part*", "engine/communicator.cpp",
     "rank == ranks - 1 ? n : (rank + 1) * each", "(rank + 1) * each"),
    ("ranks: only the first one's signal stops the job", TOOLS, "ranks: a signal*",
     "engine/trainer.cpp", "communicator_.any(stop_requested())",
     "communicator_.any(stop_requested() && communicator_.is_first())"),
    ("ranks: the ledger does not say who waits", ENGINE, "job_ledger: each rank reads*",
     "engine/job_ledger.cpp", "  own_.inside = true;\n", ""),
    ("ranks: other configurations pass", TOOLS, "ranks: those that have not*",
     "engine/trainer.cpp",
     "  check_agreement(communicator_, hash_text(directory_.configuration_hash()), "
     "\"the configuration\");\n", ""),
    ("ranks: what was begun is summed before it is computed", TOOLS, GPU_CURVE,
     "engine/communicator_nccl.cpp", "    ops_->wait(stream_, ready_);\n", ""),
    ("ranks: nobody waits for NCCL", TOOLS, GPU_CURVE,
     "engine/communicator_nccl.cpp", "    if (!unfinished_) return;\n", "    return;\n"),
    ("ranks: a rank that came too early makes the directory a run's", TOOLS, GPU_ALONE,
     "engine/run_directory.cpp", 'name == ".lock" || name == kRendezvousDirectory',
     'name == ".lock"'),
    ("ranks: the configuration's place is not taken", TOOLS, GPU_ALONE, "engine/ranks.cpp",
     "find_job_place(config.parallel.place)", "find_job_place({})"),
    ("rendezvous: an answer to another request is taken", ENGINE,
     "rendezvous by file: what an earlier job*", "engine/rendezvous_file.cpp",
     "    if (request != number_) return false;\n", ""),
    ("rendezvous: the first rank of a larger job will do", ENGINE, "rendezvous by TCP: strangers*",
     "engine/rendezvous_tcp.cpp", "if (theirs.ranks != own.ranks || theirs.bytes != own.bytes) {",
     "if (theirs.bytes != own.bytes) {"),
    ("rendezvous: the port of torchrun's agent is taken for free", ENGINE,
     "rendezvous: MASTER_ADDR and MASTER_PORT*", "engine/rendezvous.cpp",
     "host == nullptr || port_is_taken", "host == nullptr"),
    ("rendezvous: a signal is not looked for", TOOLS,
     "ranks on emulated GPUs: a signal*", "engine/rendezvous_file.cpp",
     '    stop_where_requested("the ranks meet in " + directory_ + ": " + why);\n', ""),
    ("plan: what is sent last is hidden", ENGINE, "plan: what a rank sends*", "engine/plan.cpp",
     "if (bucket.embeddings) plan.sent_after_backward_bytes += parts;", ""),
    ("ranks: other weights pass", ENGINE, "check_replicas*", "engine/ranks.cpp",
     "  if (others.empty()) return;\n  throw Error(ErrorKind::communication,",
     "  if (others.size() < 100) return;\n  throw Error(ErrorKind::communication,"),
]
