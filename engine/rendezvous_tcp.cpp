// A rank connects and says which it is; the first rank answers with the bytes; the rank says that
// it has them. Whoever says something else, or nothing, is let go.
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "engine/log.h"
#include "engine/rendezvous.h"
#include "engine/stop_request.h"

namespace normlab {
namespace {

using Clock = std::chrono::steady_clock;

// What a rank says, and the first rank before the bytes; one kind of machine.
struct Greeting {
  std::array<char, 8> magic = {'n', 'o', 'r', 'm', 'l', 'a', 'b', '1'};
  int32_t rank = 0;
  int32_t ranks = 0;
  int64_t bytes = 0;
};

class Socket {
 public:
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(other.descriptor_) { other.descriptor_ = -1; }
  Socket& operator=(Socket&&) = delete;
  ~Socket() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  int descriptor() const { return descriptor_; }
  bool is_open() const { return descriptor_ >= 0; }

  // Whether something can be read (POLLIN) or written (POLLOUT) before the end.
  bool wait(short what, Clock::time_point end) const {
    pollfd one{descriptor_, what, 0};
    while (true) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
      stop_where_requested("the ranks meet at MASTER_ADDR, MASTER_PORT");
      if (left < 0) return false;
      const int found = poll(&one, 1, static_cast<int>(std::min<int64_t>(left + 1, 1000)));
      if (found > 0) return true;
      if (found < 0 && errno != EINTR) return false;
    }
  }
  bool write_all(std::span<const std::byte> bytes, Clock::time_point end) const {
    while (!bytes.empty()) {
      if (!wait(POLLOUT, end)) return false;
      const ssize_t count = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return false;
      bytes = bytes.subspan(static_cast<size_t>(count));
    }
    return true;
  }
  bool read_all(std::span<std::byte> bytes, Clock::time_point end) const {
    while (!bytes.empty()) {
      if (!wait(POLLIN, end)) return false;
      const ssize_t count = ::recv(descriptor_, bytes.data(), bytes.size(), 0);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return false;
      bytes = bytes.subspan(static_cast<size_t>(count));
    }
    return true;
  }

 private:
  int descriptor_;
};

template <typename T>
std::span<std::byte> bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

// Of one conversation.
Clock::time_point soon() { return Clock::now() + std::chrono::seconds(5); }

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

class TcpRendezvous {
 public:
  TcpRendezvous(const JobPlace& place, const TcpAddress& address, double timeout_seconds)
      : place_(place),
        address_(address),
        timeout_seconds_(timeout_seconds),
        end_(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                std::chrono::duration<double>(timeout_seconds))) {}

  void give(std::span<const std::byte> bytes) {
    const Socket listener = listen();
    std::vector<bool> served(static_cast<size_t>(place_.ranks));
    served[0] = true;
    while (true) {
      const std::string missing = missing_of(served);
      if (missing.empty()) return;
      if (!listener.wait(POLLIN, end_)) {
        throw late("rank " + missing + " did not come to port " + std::to_string(address_.port) +
                   " of the first rank's machine");
      }
      const Socket other(accept4(listener.descriptor(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!other.is_open()) continue;
      const int rank = serve(other, bytes);
      if (rank > 0) served[static_cast<size_t>(rank)] = true;
    }
  }

  void take(std::span<std::byte> bytes) {
    constexpr std::chrono::milliseconds kAgain{100};
    while (!ask(bytes)) {
      stop_where_requested("the first rank is awaited at " + text());
      if (Clock::now() > end_) throw late(text() + " did not answer: " + problem_);
      std::this_thread::sleep_for(kAgain);
    }
  }

 private:
  std::string text() const { return address_.host + ":" + std::to_string(address_.port); }
  Error late(const std::string& what) const {
    return {ErrorKind::communication,
            what + " within " + duration_text(timeout_seconds_) +
                " (parallel.timeout_seconds; MASTER_ADDR = " + address_.host +
                ", MASTER_PORT = " + std::to_string(address_.port) +
                "). See that every rank was started, and that its machine reaches the first one's"};
  }
  static std::string missing_of(const std::vector<bool>& served) {
    std::string missing;
    for (size_t rank = 0; rank < served.size(); ++rank) {
      if (!served[rank]) missing += (missing.empty() ? "" : ", ") + std::to_string(rank);
    }
    return missing;
  }
  Greeting greeting(size_t bytes) const {
    Greeting greeting;
    greeting.rank = place_.rank;
    greeting.ranks = place_.ranks;
    greeting.bytes = static_cast<int64_t>(bytes);
    return greeting;
  }

  // By both versions of IP where there are both.
  Socket listen() const {
    sockaddr_in6 six{};
    six.sin6_family = AF_INET6;
    six.sin6_port = htons(static_cast<uint16_t>(address_.port));
    sockaddr_in four{};
    four.sin_family = AF_INET;
    four.sin_port = six.sin6_port;
    Socket listener(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (listener.is_open()) {
      return listen(std::move(listener), reinterpret_cast<sockaddr*>(&six), sizeof(six));
    }
    return listen(Socket(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
                  reinterpret_cast<sockaddr*>(&four), sizeof(four));
  }
  Socket listen(Socket listener, const sockaddr* where, socklen_t size) const {
    const int yes = 1, no = 0;
    const int one = listener.descriptor();
    // A port that an earlier job has left a moment ago may be taken at once.
    setsockopt(one, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (where->sa_family == AF_INET6) {
      setsockopt(one, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
    }
    if (bind(one, where, size) == 0 && ::listen(one, SOMAXCONN) == 0) return listener;
    throw input_error("MASTER_PORT = " + std::to_string(address_.port) +
                      " (the first rank cannot listen there: " + std::strerror(errno) +
                      "). Choose a port that is free on its machine");
  }

  // The rank that has the bytes now, or 0.
  int serve(const Socket& other, std::span<const std::byte> bytes) const {
    Greeting own = greeting(bytes.size()), theirs;
    if (!other.read_all(bytes_of(theirs), soon()) || theirs.magic != own.magic) return 0;
    if (!other.write_all(bytes_of(own), soon())) return 0;
    if (theirs.ranks != own.ranks || theirs.bytes != own.bytes || theirs.rank < 1 ||
        theirs.rank >= own.ranks) {
      return 0;
    }
    char taken = 0;
    const bool done = other.write_all(bytes, soon()) && other.read_all(bytes_of(taken), soon());
    return done ? theirs.rank : 0;
  }

  Socket connect() {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const std::string port = std::to_string(address_.port);
    const int code = getaddrinfo(address_.host.c_str(), port.c_str(), &hints, &found);
    if (code != 0) {
      problem_ = std::string("its name is not known here, ") + gai_strerror(code);
      return Socket(-1);
    }
    const Addresses addresses(found, freeaddrinfo);
    for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
      Socket own(socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (!own.is_open()) continue;
      int error = 0;
      socklen_t size = sizeof(error);
      const bool begun =
          ::connect(own.descriptor(), one->ai_addr, one->ai_addrlen) == 0 || errno == EINPROGRESS;
      if (!begun) error = errno;
      if (begun && !own.wait(POLLOUT, soon())) error = ETIMEDOUT;
      if (error == 0) getsockopt(own.descriptor(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error == 0) return own;
      problem_ = std::strerror(error);
    }
    return Socket(-1);
  }

  bool ask(std::span<std::byte> bytes) {
    const Socket first = connect();
    if (!first.is_open()) return false;
    Greeting own = greeting(bytes.size()), theirs;
    problem_ = "somebody else listens there";
    // The first rank serves one after another.
    if (!first.write_all(bytes_of(own), soon()) || !first.read_all(bytes_of(theirs), end_) ||
        theirs.magic != own.magic) {
      return false;
    }
    if (theirs.ranks != own.ranks || theirs.bytes != own.bytes) {
      throw Error(ErrorKind::communication,
                  text() + " is the first of " + std::to_string(theirs.ranks) +
                      " ranks, and this is one of " + std::to_string(own.ranks) +
                      " (another job has the same MASTER_PORT, or another version of the "
                      "program). Choose another port");
    }
    char taken = 1;
    return first.read_all(bytes, soon()) && first.write_all(bytes_of(taken), soon());
  }

  JobPlace place_;
  TcpAddress address_;
  double timeout_seconds_;
  Clock::time_point end_;
  std::string problem_ = "nobody listens there";
};

}  // namespace

void broadcast_by_tcp(const JobPlace& place, const TcpAddress& address, double timeout_seconds,
                      std::span<std::byte> bytes) {
  if (place.ranks == 1) return;
  TcpRendezvous rendezvous(place, address, timeout_seconds);
  if (place.rank == 0) {
    rendezvous.give(bytes);
  } else {
    rendezvous.take(bytes);
  }
}

}  // namespace normlab
