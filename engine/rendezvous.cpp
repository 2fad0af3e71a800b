#include "engine/rendezvous.h"

#include <charconv>
#include <cstring>

namespace normlab {
namespace {

int port_of(const char* text) {
  constexpr int kLargest = 65535;
  int port = 0;
  const char* end = text + std::strlen(text);
  const auto [last, error] = std::from_chars(text, end, port);
  if (error == std::errc() && last == end && port > 0 && port <= kLargest) return port;
  throw input_error(std::string("MASTER_PORT = ") + text +
                    " (must be a port, from 1 to 65535: the first rank listens there). Correct it, "
                    "or unset MASTER_ADDR and MASTER_PORT");
}

}  // namespace

BroadcastBytes find_broadcast(const JobPlace& place, const std::string& directory,
                              double timeout_seconds, const Environment& environment) {
  const char* host = environment("MASTER_ADDR");
  const char* port = environment("MASTER_PORT");
  if ((host == nullptr) != (port == nullptr)) {
    throw input_error(std::string(host == nullptr ? "MASTER_ADDR" : "MASTER_PORT") +
                      " is not set (" + (host == nullptr ? "MASTER_PORT" : "MASTER_ADDR") +
                      " is: together they say where the first rank listens). Set both or neither");
  }
  const char* agent = environment("TORCHELASTIC_USE_AGENT_STORE");
  const bool port_is_taken = agent != nullptr && std::strcmp(agent, "True") == 0;
  if (host == nullptr || port_is_taken) {
    return [=](std::span<std::byte> bytes) {
      broadcast_by_file(place, directory, timeout_seconds, bytes);
    };
  }
  const TcpAddress address{host, port_of(port)};
  return
      [=](std::span<std::byte> bytes) { broadcast_by_tcp(place, address, timeout_seconds, bytes); };
}

}  // namespace normlab
