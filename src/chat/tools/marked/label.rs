//! Words between two calls that say nothing but that another call follows: `and`, `Call 2:`, `2nd call`, `Then:`,
//! `Schritt 2`, `第二次调用：`, `2. weather`.
//!
//! They are made of neutral words and at most one number a line, before its colon: all else, such as a result that
//! the model made up, a condition or an alternative (`o`, `または`), has other words, and ends the calls.

use std::sync::LazyLock;

use super::super::cursor::{Cursor, Miss};
use super::bullet;
use crate::chat::Tool;

/// Longest run of letters that is looked at, in bytes.
const LONGEST: usize = 60;
/// Longest number.
const DIGITS: usize = 3;

/// Neutral words by their languages, in small letters; a word of several stands with the first. Where a language
/// writes them without blanks, a run is made of several.
const WORDS: &[(&str, &str)] = &[
    (
        "English",
        "and then also plus next now after that this afterwards afterward finally last
         lastly first firstly second secondly third thirdly fourth fifth sixth one two
         three four five call calls calling tool function invocation step command number
         the a another additional with in parallel meanwhile simultaneously as well for is
         here comes",
    ),
    (
        "German",
        "und dann auch außerdem zusätzlich danach anschließend als nächstes nächster
         nächste jetzt nun schließlich zuletzt zum schluss erster erste erstens zweiter
         zweite zweites zweitens dritter dritte drittes drittens vierter vierte fünfter
         fünfte aufruf werkzeugaufruf funktionsaufruf werkzeug funktion schritt befehl
         nummer nr der die das den noch ein weiterer weiteren sowie dazu",
    ),
    (
        "French",
        "et puis aussi ensuite après enfin finalement maintenant premier première deuxième
         seconde troisième quatrième cinquième appel outil fonction étape commande numéro n
         le la l d de un une autre suivant suivante parallèle cela en",
    ),
    (
        "Spanish and Portuguese",
        "y e luego después depois entonces también também además além disso ahora agora
         seguida em seguir continuación finalmente por último última primero primera
         primeiro primeira segundo segunda tercer tercero tercera terceiro terceira cuarto
         cuarta quarto quarta quinto quinta llamada chamada herramienta ferramenta función
         função paso passo etapa comando número núm num nº el los otra otro outra outro
         siguiente próxima próximo então eso isso paralelo",
    ),
    (
        "Italian",
        "poi anche inoltre dopo quindi infine ora adesso prima primo secondo seconda terzo
         terza chiamata strumento funzione fase il lo una altra altro successiva successivo
         prossima prossimo ciò",
    ),
    (
        "Russian",
        "и затем потом далее дальше также ещё еще теперь после этого наконец первый второй
         третий четвёртый четвертый пятый следующий вызов инструмент инструмента функции
         функция шаг команда номер один",
    ),
    (
        "Chinese",
        "和 然后 然後 以及 并 并且 接着 接著 接下来 接下來 随后 再 再来 最后 最後 现在 現在
         同时 另外 此外 还有 下一 下一个 下一個 第 一 二 三 四 五 六 十 次 个 個 步 步骤
         步驟 调用 調用 呼叫 工具 函数 命令 的",
    ),
    (
        "Japanese",
        "と に 次に 続いて それから そして また さらに 最後に その後 今度は つ目 番目 回目
         の 呼び出し 呼出し コール ツール 関数 ステップ コマンド 目",
    ),
    (
        "Korean",
        "그리고 다음 다음으로 그다음 그런 이어서 또한 마지막으로 이제 첫 두 세 네 번째 호출
         도구 함수 단계 번 명령",
    ),
    (
        "Turkish",
        "ve sonra daha ardından ayrıca şimdi sırada son olarak bir sonraki birinci ikinci
         üçüncü dördüncü çağrı araç çağrısı işlev adım komut numara",
    ),
    (
        "Arabic",
        "و ثم التالي التالية بعد ذلك أيضا أيضًا أخيرا أخيرًا الآن الأول الأولى الثاني
         الثانية الثالث الثالثة الرابع الاستدعاء استدعاء الأداة أداة الخطوة خطوة الأمر رقم",
    ),
    (
        "Hindi",
        "और फिर इसके बाद अब अगला अगली पहला पहली दूसरा दूसरी तीसरा तीसरी कॉल टूल फ़ंक्शन चरण
         कमांड साथ ही अंत में",
    ),
];
/// What stands behind the digits of an ordinal, a hyphen aside.
const ORDINALS: &[&str] = &[
    "st", "nd", "rd", "th", "e", "er", "ère", "re", "ème", "eme", "de", "º", "ª", "o", "a", "й",
    "я", "ый", "ой",
];
/// Words before a number whose full stop ends no sentence.
const SHORT: [&str; 4] = ["nr", "n", "núm", "num"];

/// Numerals among them.
const NUMERALS: [&str; 6] = ["one", "two", "three", "four", "five", "один"];

/// [`WORDS`] in order.
static IN_ORDER: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let mut words: Vec<&str> =
        WORDS.iter().flat_map(|(_, words)| words.split_whitespace()).collect();
    words.sort_unstable();
    words
});
/// Longest of the words that are written without blanks, in characters.
const LONGEST_UNSPACED: usize = 6;

/// How far the line of a label has been read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Label {
    has_begun: bool,
    has_counter: bool,
    /// Whether a number may follow, as behind a word.
    counts: bool,
    has_number: bool,
    has_colon: bool,
    /// Whether the last word is short for `number`.
    is_short: bool,
}

impl Label {
    /// Skips white space.
    pub fn blanks(&mut self, cursor: &mut Cursor<'_>) {
        let before = cursor.rest;
        cursor.blanks();
        if before[..before.len() - cursor.rest.len()].contains('\n') {
            *self = Label::default();
        }
    }

    /// Skips a sign, which says nothing, but may part a number from what it counts.
    pub fn sign(&mut self, cursor: &mut Cursor<'_>, c: char) {
        self.has_colon |= matches!(c, ':' | '：' | '=' | '→');
        let keeps = !".,;!?。，；！？".contains(c) || (c == '.' && self.is_short);
        self.counts &= keeps && !self.has_colon;
        cursor.rest = &cursor.rest[c.len_utf8()..];
    }

    /// Skips a neutral word, a number, or behind one the name of a tool.
    pub fn skip(&mut self, cursor: &mut Cursor<'_>, tools: &[Tool]) -> Result<(), Miss> {
        if !std::mem::replace(&mut self.has_begun, true) && counter(cursor, &mut self.has_colon)? {
            self.has_counter = true;
            return Ok(());
        }
        // Elsewhere it is more likely a word like others.
        if (self.has_counter || self.has_number) && tool(cursor, tools)? {
            self.counts = false;
            return Ok(());
        }
        let end = cursor.rest.find(|c: char| !is_in_word(c));
        let (word, behind) = cursor.rest.split_at(end.unwrap_or(cursor.rest.len()));
        if word.len() > LONGEST {
            return Err(Miss::Never);
        }
        let word_in_small = small_letters(word);
        let is_number = is_number(&word_in_small);
        let numbers = word.split(|c: char| !c.is_numeric()).filter(|part| !part.is_empty());
        let longest = numbers.clone().map(|number| number.chars().count()).max();
        let has_number = is_number || longest.is_some();
        let is_one_too_many = self.has_number || self.has_colon || numbers.count() > 1;
        if has_number && (is_one_too_many || longest.is_some_and(|long| long > DIGITS)) {
            return Err(Miss::Never);
        }
        let length = match is_number {
            true => word.len() + self.number(behind, end.is_some())?,
            false => neutral(&word_in_small, end.is_some()).map(|()| word.len())?,
        };
        self.is_short = SHORT.contains(&&*word_in_small);
        cursor.rest = &cursor.rest[length..];
        self.counts = true;
        self.has_number |= has_number;
        Ok(())
    }

    /// Checks a number by what stands before and behind it; returns the length of an ordinal's end, as in `2-й`.
    fn number(&self, behind: &str, is_ended: bool) -> Result<usize, Miss> {
        if !is_ended {
            return Err(Miss::More);
        }
        if let Some(rest) = behind.strip_prefix('-') {
            match rest.find(|c: char| !is_in_word(c)) {
                None if rest.len() <= LONGEST => return Err(Miss::More),
                Some(end) if ORDINALS.contains(&&*rest[..end].to_lowercase()) => return Ok(end + 1),
                _ => {}
            }
        }
        if self.counts { Ok(0) } else { Err(Miss::Never) }
    }
}

/// True if a line is nothing but a label.
pub fn is_one(line: &str) -> bool {
    let line = format!("{line}\n");
    let (mut cursor, mut label) = (Cursor::new(&line), Label::default());
    while let Some(c) = cursor.rest.trim_start().chars().next() {
        label.blanks(&mut cursor);
        match c.is_alphanumeric() {
            true if label.skip(&mut cursor, &[]).is_err() => return false,
            true => {}
            false => label.sign(&mut cursor, c),
        }
    }
    true
}

/// A text in small letters; a Turkish `İ` becomes `i` alone.
pub fn small_letters(text: &str) -> String {
    text.to_lowercase().replace('\u{307}', "")
}

/// True for a number of digits, or a numeral that means nothing but how many.
fn is_number(word: &str) -> bool {
    word.chars().all(char::is_numeric)
        || word.chars().all(|c| bullet::NUMERALS.contains(&c))
        || NUMERALS.contains(&word)
}

/// Skips the counter that a line begins with.
fn counter(cursor: &mut Cursor<'_>, has_colon: &mut bool) -> Result<bool, Miss> {
    let mut at = *cursor;
    match bullet::counter(&mut at) {
        Ok(()) => {
            *has_colon = cursor.rest[..cursor.rest.len() - at.rest.len()].ends_with([':', '：']);
            *cursor = at;
            Ok(true)
        }
        Err(Miss::More) => Err(Miss::More),
        Err(Miss::Never) => Ok(false),
    }
}

/// Skips the name of a tool.
fn tool(cursor: &mut Cursor<'_>, tools: &[Tool]) -> Result<bool, Miss> {
    let is_in_name = |c: char| c.is_alphanumeric() || "_-".contains(c);
    let end = cursor.rest.find(|c| !is_in_name(c));
    let name = &cursor.rest[..end.unwrap_or(cursor.rest.len())];
    match end {
        None if tools.iter().any(|tool| tool.name.starts_with(name)) => Err(Miss::More),
        Some(end) if tools.iter().any(|tool| tool.name == name) => {
            cursor.rest = &cursor.rest[end..];
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// True for what words are made of: letters, digits, and the signs that join letters in Indic scripts.
pub fn is_in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\u{93c}' | '\u{94d}' | '\u{200c}' | '\u{200d}')
}

/// True for scripts that put no blanks between words, and Korean, which may leave them out.
pub fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

fn is_known(word: &str) -> bool {
    IN_ORDER.binary_search(&word).is_ok()
}

/// True if a known word begins so.
fn begins_known(beginning: &str) -> bool {
    let at = IN_ORDER.partition_point(|word| *word < beginning);
    IN_ORDER.get(at).is_some_and(|word| word.starts_with(beginning))
}

/// Checks that a run of letters in small letters, which may have digits at one of its ends, is neutral.
fn neutral(run: &str, is_ended: bool) -> Result<(), Miss> {
    if run.contains(is_unspaced) {
        return made_of_words(run, is_ended);
    }
    let (is_one, may_become) = match run.trim_start_matches(char::is_numeric) {
        rest if rest.len() < run.len() => {
            (ORDINALS.contains(&rest), ORDINALS.iter().any(|end| end.starts_with(rest)))
        }
        _ => {
            let word = run.trim_end_matches(char::is_numeric);
            (is_known(word), begins_known(run))
        }
    };
    match is_ended {
        true if is_one => Ok(()),
        false if is_one || may_become => Err(Miss::More),
        _ => Err(Miss::Never),
    }
}

/// Checks that a run of a script without blanks is made of neutral words and digits alone.
fn made_of_words(run: &str, is_ended: bool) -> Result<(), Miss> {
    let mut reached = vec![false; run.len() + 1];
    reached[0] = true;
    let mut may_become = false;
    for (at, c) in run.char_indices() {
        if !reached[at] {
            continue;
        }
        let rest = &run[at..];
        if c.is_numeric() {
            reached[at + c.len_utf8()] = true;
        }
        let ends = rest.char_indices().map(|(end, c)| end + c.len_utf8()).take(LONGEST_UNSPACED);
        ends.filter(|end| is_known(&rest[..*end])).for_each(|end| reached[at + end] = true);
        may_become |= begins_known(rest);
    }
    match is_ended {
        true if reached[run.len()] => Ok(()),
        false if reached[run.len()] || may_become => Err(Miss::More),
        _ => Err(Miss::Never),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_label_if_it_is_made_of_neutral_words_and_one_number() {
        for line in [
            "Call 2:",
            "**Call #2**",
            "2nd call",
            "Then:",
            "## Step 2 —",
            "2. Second call",
            "Und dann der zweite Aufruf:",
            "Appel n° 2 :",
            "Nr. 2",
            "Después:",
            "Próxima chamada:",
            "Seconda chiamata:",
            "2-й вызов:",
            "第二次调用：",
            "第2步",
            "接下来：",
            "2つ目の呼び出し：",
            "次に、",
            "두 번째 호출:",
            "호출 2:",
            "Sonraki çağrı:",
            "ثم:",
            "फिर:",
            "İkinci çağrı:",
            "Call two:",
            "",
        ] {
            assert!(is_one(line), "{line}");
        }
        for line in [
            "Call 2: 42",
            "Call. 42",
            "42",
            "Tool: 14:05",
            "Then 1 2",
            "Call 2024",
            "Or:",
            "O:",
            "Oder:",
            "または：",
            "或：",
            "If that fails:",
            "Otherwise:",
            "Example 2:",
            "Result 1:",
            "User:",
            "Call 2 (if needed):",
            "1. 2. 3.",
            "2: 30.",
            "A: 42.",
            "2：call 42",
            "二十",
            "One two three",
            "nein",
            "nada",
        ] {
            assert!(!is_one(line), "{line}");
        }
    }

    #[test]
    fn no_word_is_longer_than_what_is_looked_for() {
        let is_short = |word: &&&str| word.chars().count() <= LONGEST_UNSPACED;
        let mut unspaced = IN_ORDER.iter().filter(|word| word.starts_with(is_unspaced));
        assert!(unspaced.all(|word| is_short(&word)));
        assert!(IN_ORDER.iter().all(|word| word.len() <= LONGEST && word.to_lowercase() == *word));
    }
}
