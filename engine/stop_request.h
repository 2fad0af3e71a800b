// SIGTERM, SIGINT, SIGUSR1 and the end of a Slurm job's time ask the program to save and end.
#pragma once

#include <string>

namespace normlab {

// From now on these signals only set a flag; a second SIGINT ends the program at once. To be called
// before there are other threads, which take over that these signals do not interrupt them.
void catch_stop_signals();
// Asks for a stop `seconds_before` the job's end, where Slurm says when that is (`end_time`, the
// value of SLURM_JOB_END_TIME, seconds since 1970; null: it does not) and it is not nearer already.
// Returns what is to be said of it, "" where there is nothing.
std::string stop_before_job_ends(const char* end_time, double seconds_before);
bool stop_requested();
// "SIGTERM", "the end of the Slurm job's time"; "" where no stop was asked for.
std::string stop_signal_name();
// Throws an Error of kind stopped where a stop was asked for while nothing is to be saved: "stopped
// by SIGTERM while WHAT".
void stop_where_requested(const std::string& what);

}  // namespace normlab
