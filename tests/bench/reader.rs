//! What the reader of calls costs where there are none: nanoseconds for each piece of an answer's text, and the
//! characters that it holds back on average, by the kind of the text. `cargo run --release --example reader`,
//! behind `--` the kinds if not all are wanted.

use std::sync::Arc;
use std::time::Duration;

use langfast2api::chat::models::{BUILT_IN, Models, Unknown};
use langfast2api::chat::tools::nonce::Secret;
use langfast2api::chat::tools::{self, Plan};
use langfast2api::chat::{ChatRequest, Role, Sampling, Tool, Tools, Turn};
use langfast2api::completions::part::Part;
use langfast2api::completions::reader::Reader;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Pieces of each kind of text in a round.
const PIECES: usize = 200_000;
const ROUNDS: usize = 7;

const PROSE: &str = "The failure has three causes, and none of them needs a rewrite. First, the reader trims \
what it should keep; second, the buffer is shared by both streams, so that they race; third, on Windows the path \
is split at its colon. \"Don't touch main,\" you said, so I'm only looking.\n\n- The first one explains yesterday's \
report (see `parse()` and `trim_end`).\n- The second one happens when `a < b`, i.e. rarely.\n1. Look at the tests.\n\
2. Fix what they show, e.g. the colon.\n\n**Summary:** three small patches will do — I would begin with the second.\n\n";

const CODE: &str = "```rust\nuse std::collections::HashMap;\n\n/// Counts the words of a text.\nfn count(text: &str) \
-> HashMap<&str, usize> {\n    let mut words: HashMap<&str, usize> = HashMap::new();\n    for word in \
text.split(|c: char| !c.is_alphanumeric()) {\n        if word.len() > 1 && word.len() < 40 {\n            \
*words.entry(word).or_insert(0) += 1;\n        }\n    }\n    words\n}\n```\n\nAnd in Python:\n\n```python\ndef \
count(text: str) -> dict[str, int]:\n    \"\"\"Counts the words of a text.\"\"\"\n    words = [w for w in \
re.split(r'\\W+', text) if 1 < len(w) < 40]\n    return {w: words.count(w) for w in set(words)}\n```\n\n";

const CHINESE: &str = "这个问题有三个原因，都不需要重写。第一，读取器删掉了应该保留的空格；第二，两个流共用同一个缓冲区，\
所以会互相干扰；第三，在 Windows 上路径会在冒号处被截断。你说过“不要动主分支”，所以我只是看看。\n\n- 第一点解释了昨天的报告\
（见 `parse()`）。\n- 第二点很少发生。\n1. 先看测试。\n2. 再改代码，例如冒号那里。\n\n**总结：**三个小补丁就够了——我会从第二个开始。\n\n";

const HTML: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n  <title>Orders &amp; returns</title>\n  <link \
rel=\"stylesheet\" href=\"main.css\">\n</head>\n<body class=\"page\">\n  <nav><a href=\"/\">Home</a> &rsaquo; <a \
href=\"/orders\">Orders</a></nav>\n  <table>\n    <tr><th>Item</th><td>Tea &lt;green&gt;</td><td><code>T-12</code></td>\
</tr>\n    <tr><th>Price</th><td>4,50&nbsp;&euro;</td><td><b>in stock</b></td></tr>\n  </table>\n  <!-- the footer \
-->\n  <footer><small>&copy; 2026</small><br></footer>\n</body>\n</html>\n\n";

fn plan() -> Arc<Plan> {
    let tool = |name: &str| Tool {
        name: name.to_owned(),
        parameters: Some(json!({"type": "object", "properties": {"path": {"type": "string"}}})),
        ..Tool::default()
    };
    let list = ["bash", "read_file", "write_file", "search", "mcp__github__create_issue"].map(tool);
    let mut request = ChatRequest {
        model: "gpt-3.5-turbo".to_owned(),
        turns: vec![Turn::message(Role::User, "Hi")],
        tools: Tools { list: list.into(), parallel: true, ..Tools::default() },
        sampling: Sampling::default(),
        stop: Vec::new(),
        n: 1,
        ignored: Vec::new(),
        left_out: Vec::new(),
    };
    let models = Models::parse(BUILT_IN, &[], Unknown::Refuse).expect("the built-in list is right");
    let model = models.find("gpt-3.5-turbo").expect("it is built in");
    Arc::new(tools::plan(&mut request, model, &Secret::default()))
}

/// A text over and over, in pieces of one to six characters, about as tokens are.
fn pieces(text: &str) -> Vec<String> {
    let mut characters = text.chars().cycle();
    let sizes = [4, 1, 5, 3, 6, 2, 4, 5].into_iter().cycle();
    sizes.take(PIECES).map(|size| characters.by_ref().take(size).collect()).collect()
}

/// The processor's time that this thread has taken: other programs make no difference to it.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds a piece, and the characters that are held back on average.
fn measure(plan: &Arc<Plan>, pieces: &[String]) -> (f64, f64) {
    let mut reader = Reader::new(plan.clone(), Arc::default(), false);
    let mut parts = Vec::new();
    let (mut held, mut sum) = (0, 0);
    let own: Vec<String> = pieces.to_vec();
    let begin = processor();
    for piece in own {
        held += piece.len();
        reader.push(piece, &mut parts);
        for part in parts.drain(..) {
            if let Part::Text(text) = part {
                held -= text.len();
            }
        }
        sum += held;
    }
    let spent = processor() - begin;
    assert!(!reader.is_done(), "there are no calls");
    (spent.as_nanos() as f64 / PIECES as f64, sum as f64 / PIECES as f64)
}

fn main() {
    let plan = plan();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for (name, text) in [("prose", PROSE), ("code", CODE), ("Chinese", CHINESE), ("HTML", HTML)] {
        if !wanted.is_empty() && !wanted.iter().any(|kind| kind == name) {
            continue;
        }
        let pieces = pieces(text);
        let rounds = (0..ROUNDS).map(|_| measure(&plan, &pieces));
        let best = rounds.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are rounds");
        println!("{name}: {:.0} ns a piece, {:.2} bytes held back", best.0, best.1);
    }
}
