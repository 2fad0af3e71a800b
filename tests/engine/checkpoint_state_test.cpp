#include "engine/checkpoint_state.h"

#include "catch.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

TEST_CASE("checkpoint state: a text that nests without end is damage") {
  const TemporaryFolder folder;
  std::string text = state_text({}, {});
  const std::string nested = std::string(1'000'000, '[') + std::string(1'000'000, ']');
  text.replace(text.find("[]"), 2, nested);
  folder.write("state.json", text);
  CHECK(inspect_checkpoint(folder.path()).damage ==
        folder.path() + "/state.json: differs from its own checksum");
}

TEST_CASE("checkpoint state: names that no file of a checkpoint has are damage") {
  const TemporaryFolder folder;
  const std::string name = GENERATE(std::string(256, 'A'), "../model.safetensors", "/dev/null");
  folder.write("state.json", state_text({}, {{name, "0123456789abcdef"}}));
  CHECK(inspect_checkpoint(folder.path()).damage ==
        folder.path() + "/state.json: names a file that no checkpoint has");
}
