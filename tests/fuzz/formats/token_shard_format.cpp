#include "data/token_shards.h"
#include "tests/fuzz/format.h"

namespace normlab::fuzz {

Format token_shard_format(const std::string& folder) {
  const std::string path = folder + "/train-00000.bin";
  Format format;
  for (const size_t count : {1, 3, 2000}) {
    std::vector<uint16_t> tokens(count);
    for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<uint16_t>(i * 37);
    write_shard(path, tokens);
    format.files.push_back(read_bytes(path));
  }
  format.read = [path](const std::string& bytes) {
    write_bytes(path, bytes);
    shard_vocabulary({path});
    read_shards({path});
  };
  return format;
}

}  // namespace normlab::fuzz
