// gzip and zstd, unpacked as a stream.
#pragma once

#include <memory>

#include "data/byte_source.h"

namespace normlab {

// All members of a gzip file, one after another; zeros behind the last (a tape's filling) are
// passed over.
std::unique_ptr<ByteSource> unpack_gzip(std::unique_ptr<ByteSource> packed);
// All frames of a zstd file, with windows of up to 2 GiB (zstd --long=31).
std::unique_ptr<ByteSource> unpack_zstd(std::unique_ptr<ByteSource> packed);

}  // namespace normlab
