// PTX: entries with their parameters and directives, variables with their sizes. The code itself is skipped.
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <utility>

#include "images.h"

namespace standin::driver {
namespace {

constexpr std::string_view kDirective = "//.standin";

bool is_word(char c) { return isalnum(static_cast<unsigned char>(c)) || strchr("_$.%@", c) != nullptr; }

// Words and single signs; comments are left out, but for the directive that was read last.
class Tokens {
 public:
  explicit Tokens(std::string_view text) : text_(text) { advance(); }
  std::string_view now() const { return now_; }
  bool at(std::string_view token) const { return now_ == token; }
  bool over() const { return now_.empty(); }
  void advance();
  std::string_view take() {
    std::string_view token = now_;
    advance();
    return token;
  }
  bool skip(std::string_view token) {
    if (!at(token)) return false;
    advance();
    return true;
  }
  // The directive before the current token, once.
  std::string_view take_directive() { return std::exchange(directive_, {}); }

 private:
  void skip_comments();
  void skip_to(std::string_view end) { at_ = std::min(text_.find(end, at_), text_.size()); }

  std::string_view text_, now_, directive_;
  size_t at_ = 0;
};

void Tokens::skip_comments() {
  while (at_ < text_.size()) {
    if (isspace(static_cast<unsigned char>(text_[at_]))) {
      ++at_;
    } else if (text_.substr(at_, 2) == "//") {
      size_t start = at_;
      skip_to("\n");
      std::string_view comment = text_.substr(start, at_ - start);
      if (comment.starts_with(kDirective)) directive_ = comment.substr(kDirective.size());
    } else if (text_.substr(at_, 2) == "/*") {
      skip_to("*/");
      at_ = std::min(at_ + 2, text_.size());
    } else {
      return;
    }
  }
}

void Tokens::advance() {
  skip_comments();
  size_t start = at_;
  if (at_ < text_.size() && text_[at_] == '"') {
    ++at_;
    skip_to("\"");
    at_ = std::min(at_ + 1, text_.size());
  } else if (at_ < text_.size() && is_word(text_[at_])) {
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
  } else if (at_ < text_.size()) {
    ++at_;
  }
  now_ = text_.substr(start, at_ - start);
}

uint64_t number(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) base = 16, text.remove_prefix(2);
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, base);
  return value;
}

// Bytes of ".b8", ".u64", ".f32", ".pred", ...; 0: no type.
size_t size_of(std::string_view type) {
  if (type.size() < 3 || type[0] != '.' || strchr("bsufp", type[1]) == nullptr) return 0;
  if (type == ".pred") return 1;
  if (type == ".f16x2" || type == ".bf16x2") return 4;
  size_t digits = type.find_first_of("0123456789");
  uint64_t bits = digits != type.npos ? number(type.substr(digits)) : 0;
  return bits % 8 == 0 && bits <= 128 ? bits / 8 : 0;
}

// A declaration behind its state space: alignment, type, name, dimensions.
struct Declaration {
  std::string name;
  size_t align = 1, element = 0, count = 1;
  bool open = false;  // "[]": its size is that of its initial value
  bool managed = false;
};

size_t dimension(Tokens& t, bool* open) {
  size_t count = 1;
  *open = t.at("]");
  if (!*open) count = number(t.take());
  t.skip("]");
  return count;
}

// ".attribute(.managed)" and others.
bool read_attributes(Tokens& t) {
  bool managed = false;
  for (; !t.over() && !t.at(")"); t.advance()) managed |= t.at(".managed");
  t.skip(")");
  return managed;
}

Declaration read_declaration(Tokens& t) {
  Declaration d;
  bool pointee = false;  // what a parameter points to is aligned, not the parameter
  while (!t.over() && t.now()[0] == '.') {
    std::string_view word = t.take();
    if (word == ".align") {
      size_t align = number(t.take());
      if (!pointee) d.align = align;
    } else if (word == ".ptr") {
      pointee = true;
    } else if (word == ".attribute") {
      d.managed = read_attributes(t);
    } else if (word == ".v2" || word == ".v4") {
      d.count *= word == ".v2" ? 2 : 4;
    } else if (size_t size = size_of(word); size != 0) {
      d.element = size;
    }
  }
  if (!t.over() && is_word(t.now()[0])) d.name = t.take();
  while (t.skip("[")) d.count *= dimension(t, &d.open);
  d.align = std::max({d.align, d.element, size_t{1}});
  return d;
}

void put(std::vector<std::byte>& bytes, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<std::byte>(value >> (8 * i)));
}

uint64_t initial_value(std::string_view word) {
  bool bits =
      word.starts_with("0f") || word.starts_with("0F") || word.starts_with("0d") || word.starts_with("0D");
  uint64_t value = 0;
  if (!bits) return number(word);
  std::from_chars(word.data() + 2, word.data() + word.size(), value, 16);
  return value;
}

// Numbers up to the semicolon; addresses of other variables count as zeroes.
void read_initial(Tokens& t, size_t element, std::vector<std::byte>* out) {
  bool negative = false;
  for (; !t.over() && !t.at(";"); t.advance()) {
    if (t.at("-")) negative = true;
    if (!is_word(t.now()[0])) continue;
    uint64_t value = initial_value(t.now());
    put(*out, negative ? -value : value, element);
    negative = false;
  }
}

void read_variable(Tokens& t, Image* out) {
  Declaration d = read_declaration(t);
  Variable variable = {d.name, d.element * d.count, {}, d.managed};
  if (t.skip("=")) read_initial(t, d.element, &variable.initial);
  if (d.open) variable.size = variable.initial.size();
  if (!variable.name.empty() && variable.size > 0) out->variables.push_back(std::move(variable));
}

void read_params(Tokens& t, KernelImage* kernel) {
  size_t at = 0;
  while (!t.over() && !t.at(")")) {
    if (!t.skip(".param")) {
      t.advance();
      continue;
    }
    Declaration d = read_declaration(t);
    at = (at + d.align - 1) / d.align * d.align;
    kernel->params.push_back({at, d.element * d.count});
    at += d.element * d.count;
  }
  t.skip(")");
}

uint32_t read_threads(Tokens& t) {
  uint64_t threads = number(t.take());
  while (t.skip(",")) threads *= number(t.take());
  return static_cast<uint32_t>(std::min<uint64_t>(threads, 1024));
}

// Between the parameters and the end of the body.
void read_body(Tokens& t, KernelImage* kernel) {
  int depth = 0;
  while (!t.over() && !(depth == 0 && t.at(";"))) {
    if (t.at("}") && --depth == 0) break;
    if (t.at("{")) ++depth;
    std::string_view word = t.take();
    if (word == ".maxntid" || word == ".reqntid") kernel->max_threads = read_threads(t);
    if (word != ".shared") continue;
    Declaration d = read_declaration(t);
    kernel->shared_bytes += static_cast<uint32_t>(d.open ? 0 : d.element * d.count);
  }
  t.advance();
}

void skip_body(Tokens& t) {
  KernelImage nobody;
  read_body(t, &nobody);
}

CUresult read_entry(Tokens& t, std::string_view directive, Image* out) {
  KernelImage kernel;
  kernel.name = t.take();
  if (!directive.empty()) {
    std::string problem = read_cost(directive, &kernel.cost);
    if (!problem.empty())
      fprintf(stderr, "stand-in libcuda: %s: .standin: %s\n", kernel.name.c_str(), problem.c_str());
    if (!problem.empty()) return CUDA_ERROR_INVALID_PTX;
  }
  if (t.skip("(")) read_params(t, &kernel);
  read_body(t, &kernel);
  out->kernels.push_back(std::move(kernel));
  return CUDA_SUCCESS;
}

// Versions as the driver gives them: 8.7 is 87, sm_90a is 90.
int version(std::string_view text) {
  int value = 0;
  for (char c : text)
    if (isdigit(static_cast<unsigned char>(c))) value = value * 10 + (c - '0');
  return value;
}

CUresult read_statement(Tokens& t, Image* out, std::string* directive) {
  if (std::string_view fresh = t.take_directive(); !fresh.empty()) *directive = fresh;
  std::string_view word = t.take();
  if (word == ".version") out->ptx_version = version(t.take());
  if (word == ".target") out->binary_version = version(t.take());
  if (word == ".global" || word == ".const") read_variable(t, out);
  if (word == ".func") skip_body(t);
  if (word == ".entry") {
    CUresult result = read_entry(t, *directive, out);
    directive->clear();
    return result;
  }
  if (word == ";" || word == "}") directive->clear();
  return CUDA_SUCCESS;
}

}  // namespace

CUresult read_ptx(std::string_view text, Image* out) {
  Tokens tokens(text);
  std::string directive;
  bool versioned = false;
  while (!tokens.over()) {
    versioned |= tokens.at(".version");
    CUresult result = read_statement(tokens, out, &directive);
    if (result != CUDA_SUCCESS) return result;
  }
  return versioned ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}

}  // namespace standin::driver
