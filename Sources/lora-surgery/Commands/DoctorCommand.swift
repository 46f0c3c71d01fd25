import ArgumentParser
import LoRASurgery
import Tensors

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Print what a report of a bug needs to know of this machine.",
    discussion: """
      Versions, processor, memory and limits; no paths, no names of users or hosts.

        lora-surgery doctor
        lora-surgery doctor --json
      """)

  @Flag(help: "Print the facts as one JSON object on standard output.")
  var json = false

  func run() throws {
    let facts = SystemFacts().facts
    if json {
      try Console.print(ReportJSON.text(Report(facts: facts)))
    } else {
      let width = facts.map(\.name.count).max() ?? 0
      for fact in facts {
        let padding = String(repeating: " ", count: width - fact.name.count)
        try Console.print(
          "\(Console.heading(fact.name))\(padding)  \(DisplayText.escaped(fact.value, limit: 400))")
      }
    }
  }

  private struct Report: Encodable {
    let command = "doctor"
    let version = Version.current
    var facts: [SystemFacts.Fact]
  }
}
