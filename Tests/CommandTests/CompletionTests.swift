import Foundation
import Testing

/// What Tab offers, asked of the shells themselves; a shell that is not there is not asked.
struct CompletionTests {
  /// Lines with the one completion that fits; in the folder lie a file of tensors, a text and a folder.
  static let cases = [
    ("lora-surgery ext", "extract"), ("lora-surgery extract --meth", "--method"),
    ("lora-surgery extract --dtype b", "bf16"), ("lora-surgery convert x --to k", "kohya"),
    ("lora-surgery merge --rounding s", "stochastic"),
    ("lora-surgery check m", "model.safetensors"),
    ("lora-surgery extract --base f", "folder"), ("lora-surgery doctor --j", "--json"),
  ]

  private static func hasShell(_ path: String) -> Bool {
    FileManager.default.isExecutableFile(atPath: path)
  }

  private func stage() throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    let run = try Shell.run(
      """
      set -e
      touch model.safetensors notes.txt
      mkdir folder zsh
      for shell in bash zsh fish; do
        lora-surgery --generate-completion-script $shell >script.$shell
      done
      mv script.zsh zsh/_lora-surgery
      """, in: folder.path)
    #expect(run.status == 0, "\(run.text)")
    return folder
  }

  @Test(.enabled(if: hasShell("/bin/bash"))) func bash() throws {
    let folder = try stage()
    for (line, expected) in Self.cases {
      let run = try Shell.run(
        """
        source script.bash
        COMP_LINE='\(line)' COMP_POINT=${#COMP_LINE}
        read -ra COMP_WORDS <<<"$COMP_LINE"
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMPREPLY=()
        _lora-surgery lora-surgery "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
        """, in: folder.path, shell: "/bin/bash")
      #expect(run.text.split(separator: "\n").map { $0.trimmed } == [expected], "\(line)")
    }
  }

  @Test(.enabled(if: hasShell("/usr/bin/fish"))) func fish() throws {
    let folder = try stage()
    for (line, expected) in Self.cases {
      let run = try Shell.run(
        "source script.fish; complete -C '\(line)'", in: folder.path, shell: "/usr/bin/fish",
        environment: ["HOME": folder.path])
      let offered = run.text.split(separator: "\n")
        .map { String($0.prefix { $0 != "\t" }).trimmed }
      #expect(offered.contains(expected), "\(line): \(run.text)")
      #expect(!offered.contains("notes.txt"))
    }
  }

  @Test(.enabled(if: hasShell("/usr/bin/zsh"))) func zsh() throws {
    let folder = try stage()
    for (line, expected) in Self.cases {
      // An interactive shell on a terminal of its own, into which the line and a Tab are typed.
      let run = try Shell.run(
        """
        zmodload zsh/zpty
        await() { local n=0 part; while (( n++ < 400 )); do
          zpty -r -t z part && out+=$part; [[ $out == *$1* ]] && return 0; sleep 0.05; done; return 1 }
        zpty -b z zsh -f -i
        zpty -w z "PS1=''; fpath=($PWD/zsh \\$fpath); autoload -Uz compinit; compinit -u -D; \
        bindkey '^I' complete-word; print READ''Y"
        out=; await READY
        out=; zpty -w -n z '\(line)'$'\\t'
        await '\(expected)'
        """, in: folder.path, shell: "/usr/bin/zsh", environment: ["HOME": folder.path])
      #expect(run.status == 0, "\(line): \(run.text)")
    }
  }
}

extension String {
  /// The text without slashes and spaces at its end.
  fileprivate var trimmed: String {
    trimmingCharacters(in: CharacterSet(charactersIn: "/ "))
  }
}

extension Substring {
  fileprivate var trimmed: String { String(self).trimmed }
}
