// The commit that programs name is that of the build, not that of the last configuration.
#include <filesystem>

#include "catch.h"
#include "tests/tools/process.h"

using namespace normlab;
using namespace normlab::test;

namespace fs = std::filesystem;

namespace {

// A source tree of its own and the header made from it.
class Tree {
 public:
  // What building does.
  std::string commit(const std::string& git = "git") const {
    const Finished finished =
        run({"cmake", "-D", "TEMPLATE=" SOURCE_DIRECTORY "/engine/build_info.h.in", "-D",
             "OUTPUT=" + header(), "-D", "SOURCE=" + source(), "-D", "GIT=" + git, "-D",
             "VERSION=1.2", "-D", "COMPILER=a compiler", "-P",
             SOURCE_DIRECTORY "/engine/build_info.cmake"});
    INFO(finished.err);
    REQUIRE(finished.exit_code == 0);
    const std::string text = content(header()), before = "kCommit = \"";
    const size_t begin = text.find(before) + before.size();
    CHECK(text.find("\"a compiler\"") != std::string::npos);
    return text.substr(begin, text.find('"', begin) - begin);
  }
  Finished git(std::vector<std::string> words) const {
    words.insert(words.begin(), {"git", "-C", source(), "-c", "user.name=n", "-c", "user.email=e"});
    return run(words);
  }
  std::string source() const { return folder.path() + "/source"; }
  std::string header() const { return folder.path() + "/build_info.h"; }

  TemporaryFolder folder;
};

}  // namespace

TEST_CASE("build_info: a new commit is named, and the header is left alone where there is none") {
  const Tree tree;
  tree.folder.write("source/file", "1");
  CHECK(tree.commit() == "unknown");  // no repository
  if (tree.git({"init"}).exit_code != 0) {
    WARN("git is not there: commits were not tested");
    return;
  }
  CHECK(tree.commit() == "unknown");  // nothing committed
  tree.git({"add", "."});
  tree.git({"commit", "-m", "one"});
  const std::string first = tree.commit();
  CHECK(first.size() == 12);
  const auto written = fs::last_write_time(tree.header());
  CHECK(tree.commit() == first);
  CHECK(fs::last_write_time(tree.header()) == written);
  tree.folder.write("source/file", "2");
  CHECK(tree.commit() == first + "-dirty");
  tree.git({"commit", "-a", "-m", "two"});
  CHECK(tree.commit().size() == 12);
  CHECK(tree.commit() != first);
  CHECK(tree.commit("") == "unknown");
}

TEST_CASE("build_info: the commit of a repository around the source is not taken for its own") {
  const Tree tree;
  tree.folder.write("source/file", "1");
  if (run({"git", "-C", tree.folder.path(), "init"}).exit_code != 0) return;
  run({"git", "-C", tree.folder.path(), "add", "."});
  run({"git", "-C", tree.folder.path(), "-c", "user.name=n", "-c", "user.email=e", "commit", "-m",
       "outer"});
  CHECK(tree.commit() == "unknown");
}
