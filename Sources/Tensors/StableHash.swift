/// A hash that is the same in every run and on every machine: FNV-1a, 64 bits (Fowler, Noll & Vo, draft-eastlake-fnv).
package struct StableHash: Sendable, Hashable {
  /// The hash of what was added so far.
  package private(set) var value: UInt64

  /// Starts a hash; another seed gives another one.
  package init(seed: UInt64 = 0) { value = 0xCBF2_9CE4_8422_2325 ^ seed }

  /// Adds the UTF-8 of a text.
  package mutating func add(_ text: String) {
    for byte in text.utf8 { add(byte) }
  }

  /// Adds a number, its least byte first.
  package mutating func add(_ number: UInt64) {
    for shift in stride(from: 0, to: 64, by: 8) {
      add(UInt8(truncatingIfNeeded: number >> UInt64(shift)))
    }
  }

  private mutating func add(_ byte: UInt8) {
    value = (value ^ UInt64(byte)) &* 0x100_0000_01B3
  }
}
