// The gate can fail: each of its rules on what nvcc 13.0 said of a kernel that breaks it.
#include <stdexcept>

#include "catch.h"
#include "tests/ptxas/rules.h"

using namespace normlab::ptxas;

namespace {

// Of `template <int N> __global__ void __launch_bounds__(1024) crowded(float*, int)` in the
// unnamed namespace of normlab.
const std::string kSymbol =
    "_ZN7normlab36_GLOBAL__N__3e8c4ca3_4_s_cu_ebe769987crowdedILi100EEEvPfi";
const std::string kRecord =
    "object /a folder/s.cu.o\n"
    "seconds 1.25\n"
    "ptxas info    : 0 bytes gmem\n"
    "ptxas info    : Compiling entry function '" +
    kSymbol +
    "' for 'sm_80'\n"
    "ptxas info    : Function properties for " +
    kSymbol +
    "\n"
    "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
    "ptxas info    : Used 64 registers, used 1 barriers, 364 bytes cmem[0]\n"
    "ptxas info    : Compile time = 18.218 ms\n"
    "ptxas info    : Compiling entry function '" +
    kSymbol +
    "' for 'sm_90a'\n"
    "ptxas info    : Function properties for " +
    kSymbol +
    "\n"
    "    32 bytes stack frame, 32 bytes spill stores, 28 bytes spill loads\n"
    "ptxas info    : Used 64 registers, used 1 barriers, 32 bytes cumulative stack size\n";
const std::map<std::string, LaunchBounds> kBounds = {{kSymbol, {1024, 1}}};
const std::string kBudget = "budget | * | 20 | 4\n";
const std::string kPermitted = "spill | s.cu | crowded<100> | sm_90a | 32 | the tile needs it\n";

Complaints complaints_of(const std::string& record, const std::string& limits,
                         const std::map<std::string, LaunchBounds>& bounds = kBounds) {
  constexpr double kCheapest = 0.5;
  return complaints(read_report("s.cu", record), bounds, read_limits(limits), kCheapest);
}

std::string replaced(std::string text, const std::string& original, const std::string& by) {
  const size_t at = text.find(original);
  REQUIRE(at != std::string::npos);
  return text.replace(at, original.size(), by);
}

// A record of a kernel that breaks no rule.
std::string sound_record() {
  return replaced(kRecord, "32 bytes spill stores, 28", "0 bytes spill stores, 0");
}

}  // namespace

TEST_CASE("read_report: names, registers and spills of each architecture are read") {
  const FileReport report = read_report("s.cu", kRecord);
  CHECK(report.object == "/a folder/s.cu.o");
  CHECK(report.seconds == 1.25);
  REQUIRE(report.kernels.size() == 2);
  CHECK(report.kernels[0].name == "crowded<100>");
  CHECK(report.kernels[0].architecture == "sm_80");
  CHECK(report.kernels[0].registers == 64);
  CHECK(report.kernels[0].spilled_bytes == 0);
  CHECK(report.kernels[1].architecture == "sm_90a");
  CHECK(report.kernels[1].spilled_bytes == 32);
  CHECK_THROWS_AS(read_report("s.cu", "ptxas info    : 0 bytes gmem\n"), std::runtime_error);
}

TEST_CASE("kernel_name: scope, result and parameters are left out") {
  CHECK(kernel_name("_ZN7normlab12_GLOBAL__N_110add_kernelIfLi4EEEvPT_PKS2_") ==
        "add_kernel<float, 4>");
  CHECK(kernel_name("_ZN7normlab12_GLOBAL__N_13addINS_8BFloat16EEEvPT_") ==
        "add<normlab::BFloat16>");
  CHECK(kernel_name("_ZN7normlab5plainEPf") == "plain");
  CHECK(kernel_name("no_mangling") == "no_mangling");
}

TEST_CASE("read_launch_bounds: of each entry of the PTX in an object file") {
  const std::string ptx = std::string("\0\1", 2) +
                          ".target sm_80\n.visible .entry _Za(\n .param .u64 a\n)\n"
                          ".maxntid 32, 4, 2\n.minnctapersm 2\n{\n ret;\n}\n"
                          ".entry _Zb()\n{\n}\n.entry _Zc()\n.maxntid 96, 1, 1\n{";
  const auto bounds = read_launch_bounds(ptx);
  REQUIRE(bounds.size() == 3);
  CHECK(bounds.at("_Za").threads == 256);
  CHECK(bounds.at("_Za").blocks == 2);
  CHECK(bounds.at("_Zb").threads == 0);
  CHECK(bounds.at("_Zc").threads == 96);
  CHECK(bounds.at("_Zc").blocks == 1);
}

TEST_CASE("complaints: none of a sound kernel") {
  CHECK(complaints_of(sound_record(), kBudget).empty());
}

TEST_CASE("complaints: a spill that no limit permits") {
  CHECK(complaints_of(kRecord, kBudget) ==
        Complaints{"s.cu: crowded<100> for sm_90a: spills 32 bytes (permitted: 0)"});
  CHECK(complaints_of(kRecord, kBudget + kPermitted).empty());
  const std::string grown = replaced(kRecord, "32 bytes spill stores", "36 bytes spill stores");
  CHECK(complaints_of(grown, kBudget + kPermitted) ==
        Complaints{"s.cu: crowded<100> for sm_90a: spills 36 bytes (permitted: 32)"});
  for (const auto& [original, by] :
       {std::pair{"s.cu", "t.cu"}, {"<100>", "<10>"}, {"_90a", "_80"}}) {
    INFO(by);
    CHECK(complaints_of(kRecord, kBudget + replaced(kPermitted, original, by)).size() == 1);
  }
}

TEST_CASE("complaints: an advisory that wgmma runs serialised") {
  const std::string advisory =
      "(C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to "
      "insufficient register resources for the wgmma pipeline in the function '_Za'";
  CHECK(complaints_of(sound_record() + "ptxas info    : " + advisory + "\n", kBudget) ==
        Complaints{"s.cu: " + advisory});
}

TEST_CASE("complaints: more registers than the launch bounds leave") {
  CHECK(complaints_of(replaced(sound_record(), "Used 64", "Used 65"), kBudget) ==
        Complaints{"s.cu: crowded<100> for sm_80: uses 65 registers, and 1 block(s) of 1024 "
                   "threads, its launch bounds, do not fit"});
  CHECK(complaints_of(sound_record(), kBudget, {{kSymbol, {512, 2}}}).empty());
  CHECK(complaints_of(sound_record(), kBudget, {{kSymbol, {512, 3}}}).size() == 2);
  // 96 threads are three warps, 97 four.
  CHECK(complaints_of(sound_record(), kBudget, {{kSymbol, {96, 10}}}).empty());
  CHECK(complaints_of(sound_record(), kBudget, {{kSymbol, {97, 10}}}).size() == 2);
}

TEST_CASE("complaints: without launch bounds a block may have 1,024 threads") {
  CHECK(complaints_of(sound_record(), kBudget, {{kSymbol, {}}}).empty());
  CHECK(complaints_of(replaced(sound_record(), "Used 64", "Used 72"), kBudget, {{kSymbol, {}}}) ==
        Complaints{"s.cu: crowded<100> for sm_80: uses 72 registers, and has no "
                   "__launch_bounds__: a block of 1024 threads does not fit"});
}

TEST_CASE("complaints: a kernel of the object of which the record says nothing") {
  auto bounds = kBounds;
  bounds["_ZN7normlab5plainEPf"] = {32, 1};
  CHECK(complaints_of(sound_record(), kBudget, bounds) ==
        Complaints{"s.cu: nothing is known of plain for sm_80",
                   "s.cu: nothing is known of plain for sm_90a"});
}

TEST_CASE("complaints: a file over its budget") {
  CHECK(complaints_of(sound_record(), "budget | * | 2.4 | 4") ==
        Complaints{"s.cu: took nvcc 2.5 times as long as the cheapest file (its budget is 2.4)"});
  CHECK(complaints_of(sound_record(), "budget | * | 3 | 0") ==
        Complaints{"s.cu: has 1 kernels for sm_80 (its budget is 0)",
                   "s.cu: has 1 kernels for sm_90a (its budget is 0)"});
  CHECK(complaints_of(sound_record(), "budget | * | 1 | 0\nbudget | s.cu | 3 | 1").empty());
}

TEST_CASE("read_limits: a line that is no limit is an error, a comment is none") {
  CHECK(read_limits("# budget | x\n\n  \nbudget | * | 2.5 | 3 # so\n").budget.times == 2.5);
  CHECK_THROWS_AS(read_limits("budget | a.cu | 3"), std::runtime_error);
  CHECK_THROWS_AS(read_limits("spill | a.cu | k | sm_80 | 4"), std::runtime_error);
  CHECK_THROWS_AS(read_limits("spill | a.cu | k | sm_80 | 4 | "), std::runtime_error);
  CHECK_THROWS_AS(read_limits("spills"), std::runtime_error);
}

TEST_CASE("idle_limits: a limit of what is no more") {
  const FileReport report = read_report("s.cu", kRecord);
  CHECK(idle_limits({report}, read_limits(kPermitted)).empty());
  CHECK(idle_limits({read_report("s.cu", sound_record())}, read_limits(kPermitted)) ==
        Complaints{"limits.txt permits a spill that is no more: s.cu, crowded<100>, sm_90a"});
  CHECK(idle_limits({report}, read_limits("budget | t.cu | 1 | 1")) ==
        Complaints{"limits.txt has a budget for t.cu, which is not compiled"});
}
