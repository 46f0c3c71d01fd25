import LoRASurgery
import Tensors
import Testing

struct PartTests {
  @Test(arguments: ["5/4", "0/4", "-1/4", "1/0", "4", "1/2/3", "a/b", "/", "", "1/99999999999999"])
  func whatIsNoPartIsRefused(text: String) {
    #expect(surgeryError { _ = try Part(text) }?.id == "part.form")
  }

  @Test func everyItemBelongsToOnePart() throws {
    var random = SeededGenerator(3)
    for count in [1, 2, 3, 7, 40] {
      let costs = (0..<29).map { _ in Int.random(in: 0...1000, using: &random) }
      var owners = [Int](repeating: 0, count: costs.count)
      var heaviest = 0
      for number in 1...count {
        let share = try Part(number, of: count).share(of: costs)
        #expect(share == share.sorted())
        for item in share { owners[item] += 1 }
        heaviest = max(heaviest, share.reduce(0) { $0 + costs[$1] })
      }
      #expect(owners.allSatisfy { $0 == 1 })
      // Graham's bound for any list schedule; an item without cost counts for one.
      let bound = (costs.reduce(0, +) + costs.count) / count + (costs.max() ?? 0) + 1
      #expect(heaviest <= bound)
    }
  }

  @Test func equalItemsAreSharedEvenly() throws {
    for number in 1...4 {
      #expect(
        try Part(number, of: 4).share(of: [Int](repeating: 10, count: 12)).count == 3)
    }
  }

  @Test(arguments: [
    (
      ["SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "0"],
      "3/4"
    ),
    (
      ["SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"],
      "4/4"
    ),
    (
      [
        "SLURM_ARRAY_TASK_ID": "15", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "5",
        "SLURM_ARRAY_TASK_STEP": "5", "SLURM_ARRAY_TASK_MAX": "15",
      ], "3/3"
    ),
  ])
  func slurmSaysBoth(environment: [String: String], part: String) throws {
    #expect(try Part(count: nil) { environment[$0] } == Part(part))
  }

  @Test(arguments: [
    ("JOB_COMPLETION_INDEX", "0", "1/3"), ("JOB_COMPLETION_INDEX", "2", "3/3"),
    ("PARALLEL_SEQ", "1", "1/3"), ("PARALLEL_SEQ", "3", "3/3"),
  ])
  func othersSayWhichOne(variable: String, value: String, part: String) throws {
    #expect(try Part(count: 3) { $0 == variable ? value : nil } == Part(part))
    #expect(
      surgeryError { _ = try Part(count: nil) { $0 == variable ? value : nil } }?.id
        == "part.environment")
  }

  @Test(arguments: [
    [:],
    ["JOB_COMPLETION_INDEX": "0", "PARALLEL_SEQ": "1"],
    ["JOB_COMPLETION_INDEX": "x"],
    ["PARALLEL_SEQ": "-1"],
    ["PARALLEL_SEQ": "99999999999999999999"],
    ["SLURM_ARRAY_TASK_ID": "1"],
    // An array of two tasks, and one with gaps.
    ["SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1"],
    [
      "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_MIN": "1",
      "SLURM_ARRAY_TASK_STEP": "1", "SLURM_ARRAY_TASK_MAX": "7",
    ],
  ])
  func whatDoesNotFitIsRefused(environment: [String: String]) {
    #expect(
      surgeryError { _ = try Part(count: 3) { environment[$0] } }?.id == "part.environment")
  }

  @Test func aTaskBeyondTheLastIsRefused() {
    #expect(
      surgeryError { _ = try Part(count: 3) { $0 == "PARALLEL_SEQ" ? "4" : nil } }?.id
        == "part.form")
  }
}
