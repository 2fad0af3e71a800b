// gzip and zstd made by their own libraries, and by hand.
#pragma once

#include <zlib.h>
#include <zstd.h>

#include <string>

#include "kernels/error.h"

namespace normlab::test {

inline std::string gzip_of(const std::string& bytes) {
  z_stream stream{};
  constexpr int kGzip = MAX_WBITS + 16;
  check(deflateInit2(&stream, 6, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY) == Z_OK, "zlib works");
  std::string packed(deflateBound(&stream, bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  check(deflate(&stream, Z_FINISH) == Z_STREAM_END, "it fits");
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

inline std::string zstd_of(const std::string& bytes) {
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  const size_t size = ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), 3);
  check(ZSTD_isError(size) == 0, "zstd works");
  packed.resize(size);
  return packed;
}

// RFC 8878: magic, descriptor (single segment, size in one byte), size, then one last raw block
// with its size in bits 3 … of a 3-byte header. At most 31 bytes here.
inline std::string zstd_by_hand(const std::string& bytes) {
  const auto size = static_cast<char>(bytes.size());
  return std::string("\x28\xB5\x2F\xFD\x20", 5) + size + static_cast<char>(size << 3 | 1) +
         std::string(2, '\0') + bytes;
}

}  // namespace normlab::test
