# Homebrew's formula, for Linux: the program does not compile for macOS.
class Langfast2api < Formula
  desc "OpenAI-compatible API in front of LangFast"
  homepage "@REPOSITORY@"
  version "@VERSION@"
  license "MIT"

  depends_on :linux

  on_intel do
    url "@REPOSITORY@/releases/download/v@VERSION@/langfast2api-linux-x86_64.tar.gz"
    sha256 "@SHA256_x86_64@"
  end
  on_arm do
    url "@REPOSITORY@/releases/download/v@VERSION@/langfast2api-linux-aarch64.tar.gz"
    sha256 "@SHA256_aarch64@"
  end

  def install
    bin.install "langfast2api"
    generate_completions_from_executable(bin/"langfast2api", "completions")
    (man1/"langfast2api.1").write Utils.safe_popen_read(bin/"langfast2api", "man")
  end

  service do
    run opt_bin/"langfast2api"
    keep_alive crashed: true
    log_path var/"log/langfast2api.log"
    error_log_path var/"log/langfast2api.log"
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/langfast2api --version")
  end
end
