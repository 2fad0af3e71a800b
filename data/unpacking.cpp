#include "data/unpacking.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/error.h"

namespace normlab {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 17;

// A source's bytes, some of them read ahead.
class Packed {
 public:
  explicit Packed(std::unique_ptr<ByteSource> source)
      : source_(std::move(source)), block_(kBlockBytes) {}

  // What is not yet taken; empty at the end only.
  std::span<char> ahead() {
    if (begin_ == end_) {
      begin_ = 0;
      end_ = source_->read(block_);
    }
    return std::span(block_).subspan(begin_, end_ - begin_);
  }
  void take(size_t bytes) {
    begin_ += bytes;
    taken_ += static_cast<int64_t>(bytes);
  }
  int64_t bytes_read() const { return source_->bytes_read(); }

  Error truncated(const std::string& kind, const std::string& part) const {
    return input_error("truncated " + kind + " (it ends at byte " + std::to_string(taken_) +
                       ", within a " + part + "). Copy or make it again");
  }
  Error corrupt(const std::string& kind, const std::string& why) const {
    return input_error("corrupt " + kind + " (" + why + ", near byte " + std::to_string(taken_) +
                       "). Copy or make it again");
  }

 private:
  std::unique_ptr<ByteSource> source_;
  std::vector<char> block_;
  size_t begin_ = 0;
  size_t end_ = 0;
  int64_t taken_ = 0;
};

class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(std::unique_ptr<ByteSource> packed) : packed_(std::move(packed)) {
    constexpr int kGzipOnly = 16;
    const int code = inflateInit2(&stream_, MAX_WBITS + kGzipOnly);
    if (code != Z_OK) throw Error("zlib does not start (code " + std::to_string(code) + ")");
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  size_t read(std::span<char> bytes) override {
    constexpr size_t kMost = std::numeric_limits<uInt>::max();
    const size_t wanted = std::min(bytes.size(), kMost);
    stream_.next_out = reinterpret_cast<Bytef*>(bytes.data());
    stream_.avail_out = static_cast<uInt>(wanted);
    while (stream_.avail_out == wanted && go_on()) continue;
    return wanted - stream_.avail_out;
  }
  int64_t bytes_read() const override { return packed_.bytes_read(); }

 private:
  // Unpacks some more; false at the end.
  bool go_on() {
    const std::span<char> ahead = packed_.ahead();
    if (ahead.empty()) {
      if (within_member_) throw packed_.truncated("gzip", "member");
      return false;
    }
    if (members_ > 0 && !within_member_ && ahead.front() == 0) {
      packed_.take(1);
      return true;
    }
    within_member_ = true;
    stream_.next_in = reinterpret_cast<Bytef*>(ahead.data());
    stream_.avail_in = static_cast<uInt>(ahead.size());
    const int code = inflate(&stream_, Z_NO_FLUSH);
    packed_.take(ahead.size() - stream_.avail_in);
    if (code == Z_STREAM_END) {
      within_member_ = false;
      ++members_;
      inflateReset(&stream_);
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      throw packed_.corrupt("gzip", stream_.msg != nullptr ? stream_.msg : "no reason given");
    }
    return true;
  }

  Packed packed_;
  z_stream stream_{};
  bool within_member_ = false;
  int64_t members_ = 0;
};

class ZstdSource final : public ByteSource {
 public:
  explicit ZstdSource(std::unique_ptr<ByteSource> packed)
      : packed_(std::move(packed)), context_(ZSTD_createDCtx()) {
    constexpr int kLargestWindow = 31;  // log2 of bytes
    if (context_ == nullptr) throw Error("zstd does not start (out of memory)");
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kLargestWindow);
  }

  size_t read(std::span<char> bytes) override {
    ZSTD_outBuffer out{bytes.data(), bytes.size(), 0};
    while (out.pos == 0) {
      // zstd takes a frame's last byte only when all that it unpacked is handed out.
      const std::span<char> ahead = packed_.ahead();
      if (ahead.empty()) {
        if (within_frame_) throw packed_.truncated("zstd", "frame");
        return 0;
      }
      ZSTD_inBuffer in{ahead.data(), ahead.size(), 0};
      const size_t code = ZSTD_decompressStream(context_.get(), &out, &in);
      packed_.take(in.pos);
      if (ZSTD_isError(code) != 0) throw packed_.corrupt("zstd", ZSTD_getErrorName(code));
      within_frame_ = code != 0;
    }
    return out.pos;
  }
  int64_t bytes_read() const override { return packed_.bytes_read(); }

 private:
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };

  Packed packed_;
  std::unique_ptr<ZSTD_DCtx, Free> context_;
  bool within_frame_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> unpack_gzip(std::unique_ptr<ByteSource> packed) {
  return std::make_unique<GzipSource>(std::move(packed));
}

std::unique_ptr<ByteSource> unpack_zstd(std::unique_ptr<ByteSource> packed) {
  return std::make_unique<ZstdSource>(std::move(packed));
}

}  // namespace normlab
