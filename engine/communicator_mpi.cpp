// Ranks on CPUs, by MPI. Nothing here blocks inside MPI: every operation is a request that is asked
// whether it has ended, so that a rank which does not answer is found out.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <cstring>
#include <list>

#include "engine/communicator.h"
#include "engine/log.h"

namespace normlab {
namespace {

constexpr int64_t kMostElements = 1 << 30;  // of one operation: MPI counts in int

std::string words_of(int code) {
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(code, text, &length);
  return {text, static_cast<size_t>(length)};
}

// The type of a sum. Numbers of 16 bits are only moved.
MPI_Datatype type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return MPI_FLOAT;
    case DType::f64:
      return MPI_DOUBLE;
    case DType::bf16:
      return MPI_UINT16_T;
    case DType::i32:
      return MPI_INT32_T;
  }
  throw Error("a type that MPI does not know");
}

int count_of(int64_t elements) {
  check(elements <= kMostElements, "an operation of at most 2^30 elements");
  return static_cast<int>(elements);
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(JobPlace place, double timeout_seconds)
      : Communicator(std::move(place), timeout_seconds) {}

  // After an error the job is ended by end_job, not here.
  ~MpiCommunicator() override {
    if (pending_.empty()) MPI_Finalize();
  }

  std::string description() const override {
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = {};
    int length = 0;
    MPI_Get_library_version(version, &length);
    return "MPI (" + std::string(version, std::strcspn(version, ",\n")) + ")";
  }

  using Communicator::sum;
  void sum(Tensor tensor) override {
    check(tensor.dtype != DType::bf16, "a sum of f32 or f64");
    for_chunks(tensor, [&](Tensor chunk) {
      Pending& operation = begin("sum of " + count_text(chunk.elements()) + " numbers");
      request(MPI_Iallreduce(MPI_IN_PLACE, chunk.data, count_of(chunk.elements()),
                             type_of(chunk.dtype), MPI_SUM, MPI_COMM_WORLD, &operation.request));
    });
  }

  void sum_parts(Tensor tensor) override {
    check(tensor.contiguous() && tensor.dtype == DType::f32, "parts of contiguous f32");
    const int64_t elements = tensor.elements();
    const OwnPart own = own_part(elements, rank(), ranks());
    Pending& operation = begin("sum of parts of " + count_text(elements) + " numbers");
    divide(operation, elements);
    // MPI puts the sum in a place of its own.
    operation.room.resize(static_cast<size_t>((own.end - own.begin) * size_of(tensor.dtype)));
    operation.target = tensor.data + own.begin * size_of(tensor.dtype);
    request(MPI_Ireduce_scatter(tensor.data, operation.room.data(), operation.counts.data(),
                                type_of(tensor.dtype), MPI_SUM, MPI_COMM_WORLD,
                                &operation.request));
  }

  void gather_parts(Tensor tensor) override {
    check(tensor.contiguous(), "parts of a contiguous tensor");
    Pending& operation = begin("gathering " + count_text(tensor.elements()) + " numbers");
    divide(operation, tensor.elements());
    request(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, tensor.data,
                            operation.counts.data(), operation.places.data(), type_of(tensor.dtype),
                            MPI_COMM_WORLD, &operation.request));
  }

  void send(ConstTensor tensor, int to) override {
    for_chunks(tensor, [&](ConstTensor chunk) {
      Pending& operation = begin("sending " + count_text(chunk.elements()) + " numbers to rank " +
                                 std::to_string(to));
      request(MPI_Isend(chunk.data, count_of(chunk.elements()), type_of(chunk.dtype), to, 0,
                        MPI_COMM_WORLD, &operation.request));
    });
  }

  void receive(Tensor tensor, int from) override {
    for_chunks(tensor, [&](Tensor chunk) {
      Pending& operation = begin("receiving " + count_text(chunk.elements()) +
                                 " numbers from rank " + std::to_string(from));
      request(MPI_Irecv(chunk.data, count_of(chunk.elements()), type_of(chunk.dtype), from, 0,
                        MPI_COMM_WORLD, &operation.request));
    });
  }

  void broadcast(Tensor tensor, int from) override {
    for_chunks(tensor, [&](Tensor chunk) {
      Pending& operation = begin("broadcast of " + count_text(chunk.elements()) +
                                 " numbers from rank " + std::to_string(from));
      request(MPI_Ibcast(chunk.data, count_of(chunk.elements()), type_of(chunk.dtype), from,
                         MPI_COMM_WORLD, &operation.request));
    });
  }

  void join() override {
    if (!pending_.empty()) wait_for_all();
  }

  void sum(std::span<double> values) override {
    sum(Tensor(reinterpret_cast<std::byte*>(values.data()), DType::f64,
               {1, static_cast<int64_t>(values.size())}));
    join();
  }

  std::vector<uint64_t> gather(uint64_t value) override {
    std::vector<uint64_t> all(static_cast<size_t>(ranks()));
    Pending& operation = begin("gathering a number of each rank");
    request(MPI_Iallgather(&value, 1, MPI_UINT64_T, all.data(), 1, MPI_UINT64_T, MPI_COMM_WORLD,
                           &operation.request));
    join();
    return all;
  }

  void end_job(int exit_code) override {
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

  void attach(Ops&) override {}
  void detach() override {}

 private:
  struct Pending {
    MPI_Request request = MPI_REQUEST_NULL;
    std::vector<int> counts, places;  // of the ranks' parts
    std::vector<std::byte> room;      // of a sum
    std::byte* target = nullptr;      // where it belongs
  };

  Pending& begin(const std::string& operation) {
    ledger().enter(operation);
    poke();
    return pending_.emplace_back();
  }

  // The earlier operations move on only while MPI is called.
  void poke() {
    for (Pending& operation : pending_) test(operation);
  }

  bool test(Pending& operation) {
    int done = 0;
    request(MPI_Test(&operation.request, &done, MPI_STATUS_IGNORE));
    if (done != 0 && operation.target != nullptr) {
      std::memcpy(operation.target, operation.room.data(), operation.room.size());
      operation.target = nullptr;
    }
    return done != 0;
  }

  void divide(Pending& operation, int64_t elements) const {
    for (int one = 0; one < ranks(); ++one) {
      const OwnPart part = own_part(elements, one, ranks());
      operation.counts.push_back(count_of(part.end - part.begin));
      operation.places.push_back(count_of(part.begin));
    }
  }

  template <typename View, typename Run>
  static void for_chunks(View tensor, const Run& run) {
    check(tensor.contiguous(), "a contiguous tensor");
    const View flat = tensor.reshaped({1, tensor.elements()});
    for (int64_t first = 0; first < flat.elements(); first += kMostElements) {
      run(flat.column_slice(first, std::min(kMostElements, flat.elements() - first)));
    }
  }

  void request(int code) {
    if (code != MPI_SUCCESS) fail(words_of(code));
  }

  void wait_for_all() {
    Wait wait(*this);
    while (!all_done()) {
      if (const std::string problem = wait.pause(); !problem.empty()) fail(problem);
    }
    pending_.clear();
    ledger().leave();
  }

  bool all_done() {
    bool all = true;
    for (Pending& operation : pending_) all = test(operation) && all;
    return all;
  }

  std::list<Pending> pending_;  // buffers and requests that stay where they are
};

// Rank and number of ranks as MPI has them, and which of them are on this machine.
JobPlace place_by_mpi(JobPlace place) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (rank != place.rank || ranks != place.ranks) {
    MPI_Finalize();
    throw input_error(place.said_by + " said rank " + std::to_string(place.rank) + " of " +
                      std::to_string(place.ranks) + ", MPI knows rank " + std::to_string(rank) +
                      " of " + std::to_string(ranks) +
                      " (these processes were not started by a launcher of this MPI, so each would "
                      "think itself alone). Ranks on CPUs start with `mpirun -np N` or `srun "
                      "--mpi=pmix`");
  }
  MPI_Comm machine = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &machine);
  MPI_Comm_rank(machine, &place.local_rank);
  MPI_Comm_size(machine, &place.local_ranks);
  MPI_Comm_free(&machine);
  return place;
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const JobPlace& place, double timeout_seconds) {
  if (place.ranks == 1) return make_local_communicator();
  int given = MPI_THREAD_SINGLE;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  return std::make_unique<MpiCommunicator>(place_by_mpi(place), timeout_seconds);
}

bool mpi_available() { return true; }

std::string mpi_status() {
  char version[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(version, &length);
  return std::string(version, std::strcspn(version, ",\n"));
}

}  // namespace normlab
