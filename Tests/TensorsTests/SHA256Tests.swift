import Testing

@testable import Tensors

/// SHA-256 against the examples of FIPS 180-4 (NIST, "Secure Hash Standard", and the longer ones of its validation suite).
@Suite struct SHA256Tests {
  static let examples: [(text: String, digest: String)] = [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    (
      "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
    ),
    (
      String(repeating: "a", count: 1_000_000),
      "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    ),
  ]

  @Test(arguments: [true, false])
  func examplesOfTheStandard(usesInstructions: Bool) {
    for (text, digest) in Self.examples {
      let bytes = Array(text.utf8)
      for size in [1, 3, 63, 64, 65, 4096, max(bytes.count, 1)] where size * 5000 > bytes.count {
        var hash = SHA256(usesInstructions: usesInstructions)
        for start in stride(from: 0, to: bytes.count, by: size) {
          hash.update(bytes.span.extracting(start..<min(start + size, bytes.count)).bytes)
        }
        #expect(hash.hexadecimal == digest)
        // Asking does not end it.
        #expect(hash.hexadecimal == digest)
      }
    }
  }

  @Test func bothWaysAgree() {
    var bytes: [UInt8] = []
    var state: UInt64 = 7
    for _ in 0..<1000 {
      state = state &* 6_364_136_223_846_793_005 &+ 1
      bytes.append(UInt8(truncatingIfNeeded: state >> 33))
      var (one, other) = (SHA256(usesInstructions: true), SHA256(usesInstructions: false))
      one.update(bytes.span.bytes)
      other.update(bytes.span.bytes)
      #expect(one.hexadecimal == other.hexadecimal)
    }
  }
}
