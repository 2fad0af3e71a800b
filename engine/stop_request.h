// SIGTERM, SIGINT and SIGUSR1 ask the program to save and end.
#pragma once

#include <string>

namespace normlab {

// From now on these signals only set a flag; a second SIGINT ends the program at once. To be called
// before there are other threads, which take over that these signals do not interrupt them.
void catch_stop_signals();
bool stop_requested();
// "SIGTERM", or "" where none came.
std::string stop_signal_name();
// Throws an Error of kind stopped where a stop was asked for while nothing is to be saved: "stopped
// by SIGTERM while WHAT".
void stop_where_requested(const std::string& what);

}  // namespace normlab
