"""Mistakes in what holds a run against itself, and in what a run says of a fault."""

TOOLS = "test_tools"
ENGINE = "test_engine"
NAMES = "verify: names the file*"
KINDS = "verify: runs of every kind*"
REFUSED = "verify: what is no run*"
FOUND = "nonfinite: whichever call*"
PLACED = "nonfinite: the last row*"
CHUNKS = "nonfinite: the head*"

# name, test program, Catch2's filter, file, text that occurs once, what it becomes
LOOK_BACK_MISTAKES = [
    ("verify: losses may differ", TOOLS, NAMES, "engine/replay.cpp",
     "if (loss != outcome.result.loss)", "if (std::fabs(loss - outcome.result.loss) > 1e-6)"),
    ("verify: moments are not compared", TOOLS, NAMES, "engine/verification.cpp",
     "    if (!same_part(computed.second_moment, saved.second_moment, piece.packed, piece.count,\n"
     "                   moment_size)) {", "    if (false) {"),
    ("verify: the place in the data is not compared", TOOLS, NAMES, "engine/verification.cpp",
     "now.data_position != checkpoint.state.data_position", "false"),
    ("verify: damage passes", TOOLS, NAMES, "engine/verification.cpp",
     "return one.damage.empty();", "return !one.found.path.empty();"),
    ("verify: the weights are those that were saved", TOOLS, NAMES, "engine/verification.cpp",
     "  const Numbers computed = numbers_of(steps);\n  steps.begin_from(checkpoint);\n",
     "  steps.begin_from(checkpoint);\n  const Numbers computed = numbers_of(steps);\n"),
    ("verify: norms are not restored", TOOLS, KINDS, "engine/training_steps.cpp",
     "  removal_->restore(state_.norms);\n", ""),
    ("verify: another configuration passes", TOOLS, REFUSED, "engine/resume.cpp",
     "state.configuration_hash != configuration_hash", "false"),
    ("verify: a run that goes on is looked at", TOOLS, REFUSED, "engine/replay.cpp",
     "communicator.is_first() && writable", "communicator.is_first() && writable && false"),
    ("replay: gradients are met as the forward pass goes", ENGINE, "nonfinite: of weights*",
     "engine/nonfinite.cpp", "parameters[count - 1 - i].gradient", "parameters[i].gradient"),
    ("replay: only the first output is looked at", ENGINE, FOUND, "engine/nonfinite_watch.cpp",
     "    if (numbers.count == 0) continue;\n", "    if (numbers.count == 0) break;\n"),
    ("replay: infinity is a number", ENGINE, "nonfinite: the first of each*",
     "engine/nonfinite.cpp", "if (std::isfinite(numbers[i])) continue;",
     "if (!std::isnan(numbers[i])) continue;"),
    ("replay: every pass begins with the first sequence", ENGINE, PLACED,
     "engine/nonfinite_watch.cpp", "  first_sequence_ = state.first_sequence;\n", ""),
    ("replay: chunks of the head begin at the first row", ENGINE, CHUNKS,
     "engine/nonfinite_watch.cpp", "if (of_chunk) row += chunk_begin_;", ""),
    ("disk: a shard that is written to is not noticed", TOOLS, "disk: a shard that is written*",
     "data/mapped_files.cpp", "now.st_size == then.st_size && same_time(now.st_mtim, then.st_mtim)",
     "now.st_size == then.st_size"),
    ("disk: a run leaves its trial and cannot begin again", TOOLS,
     "faults: a run killed before a call*", "engine/files.cpp",
     "if (entry.path().filename() != kTrial) return false;", "return entry.path().empty();"),
    ("disk: half a write is all", TOOLS, "faults: half a write*", "engine/files.cpp",
     "    done += static_cast<size_t>(count);", "    done = content.size() + 0 * count;"),
]
