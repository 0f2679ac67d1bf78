// Writes rust.json: what the Rust library gives for variants of tokenizer.json. In this directory:
//   npm install --prefix /tmp/rust tokenizers@0.23.2 && NODE_PATH=/tmp/rust/node_modules node rust.js
// A variant is a set of top-level keys that replace those of tokenizer.json. A case has a text, its ids (BOS included),
// the ids decoded, and another list of ids decoded.
const { Tokenizer } = require("tokenizers");
const fs = require("fs");

const base = JSON.parse(fs.readFileSync("tokenizer.json"));
const mark = "▁";
const replace = { type: "Replace", pattern: { String: " " }, content: mark };
const metaspace = (fields) => ({
  normalizer: null,
  pre_tokenizer: { type: "Metaspace", replacement: mark, ...fields },
});
const tokens = (...list) => ({
  added_tokens: base.added_tokens.concat(list.map((t, i) => ({
    id: 512 + i, single_word: false, lstrip: false, rstrip: false, normalized: false, special: false, ...t,
  }))),
});
const flags = tokens(
  { content: "[L]", lstrip: true }, { content: "[R]", rstrip: true, special: true },
  { content: "dog", single_word: true }, { content: "[N]", normalized: true },
  { content: "a b", normalized: true }, { content: "[PA" }, { content: "[PAD]", special: true },
);

// llama3 is a byte-level tokenizer in the layout of LLaMA-3 with a few merges of its own.
function llama3() {
  const alphabet = [];
  let next = 0x100;
  for (let b = 0; b < 256; b++) {
    const own = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b !== 0xad);
    alphabet.push(String.fromCodePoint(own ? b : next++));
  }
  const spell = (s) => [...Buffer.from(s)].map((b) => alphabet[b]);
  const vocab = {}, merges = [];
  alphabet.forEach((c, i) => { vocab[c] = i; });
  for (const word of [" the", "ing", " and", "12", "  ", "\n\n", "é", "日本", "'s", "dog", "aa", "aaaa"]) {
    const parts = spell(word);
    let left = parts[0];
    for (const right of parts.slice(1)) {
      if (vocab[left + right] === undefined) vocab[left + right] = Object.keys(vocab).length;
      if (!merges.includes(left + " " + right)) merges.push(left + " " + right);
      left += right;
    }
  }
  for (const whole of [" hello", "123", "!!"]) vocab[spell(whole).join("")] = Object.keys(vocab).length;
  const size = Object.keys(vocab).length;
  const special = (id, content) => ({
    id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true,
  });
  return {
    added_tokens: [special(size, "<|begin_of_text|>"), special(size + 1, "<|eot_id|>")],
    normalizer: null,
    pre_tokenizer: { type: "Sequence", pretokenizers: [
      { type: "Split", behavior: "Isolated", invert: false, pattern: { Regex:
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" +
        "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" } },
      { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
    ] },
    post_processor: { type: "Sequence", processors: [
      { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true },
      { type: "TemplateProcessing", pair: [],
        single: [{ SpecialToken: { id: "<|begin_of_text|>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
        special_tokens: {
          "<|begin_of_text|>": { id: "<|begin_of_text|>", ids: [size], tokens: ["<|begin_of_text|>"] },
        } },
    ] },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null,
      fuse_unk: false, byte_fallback: false, ignore_merges: true, vocab, merges },
  };
}

const eightBit = llama3();
const variants = {
  "as it is": {},
  "normalized specials": { added_tokens: base.added_tokens.map((t) => ({ ...t, normalized: true })) },
  "metaspace first": metaspace({ prepend_scheme: "first", split: false }),
  "metaspace always": metaspace({ prepend_scheme: "always", split: false }),
  "metaspace never": metaspace({ prepend_scheme: "never", split: false }),
  "metaspace always split": metaspace({ prepend_scheme: "always", split: true }),
  "metaspace without scheme": metaspace({ add_prefix_space: true }),
  "replace without prepend": { normalizer: replace },
  "no normalizer": { normalizer: null },
  "token flags": flags,
  "token flags, metaspace first": { ...metaspace({ prepend_scheme: "first", split: false }), ...flags },
  "unknown tokens": { model: { ...base.model, byte_fallback: false, fuse_unk: false } },
  "fused unknown tokens": { model: { ...base.model, byte_fallback: false, fuse_unk: true } },
  "no unknown token": { model: { ...base.model, byte_fallback: false, unk_token: null } },
  "merges as arrays": { model: { ...base.model, merges: base.model.merges.map((m) => m.split(" ")) } },
  "llama3": eightBit,
  "llama3 merges only": { ...eightBit, model: { ...eightBit.model, ignore_merges: false } },
};

const texts = [
  "", " ", "   ", "dog", " dog", "the dog and  the   cats ", "Tomás has 12 shells. 12 x 9 = 108.", "a\nb\n\n c\t\r\n",
  "<s>", "x<s>y", "x <s> y</s>", "<unk> </s>", "[L] a  [L]", "[R]  b [R]", "a dog's dogs hotdog dog", "x[N] [N]y",
  "a b a  b", "[PA [PAD] [PAD", "日本語 123456 🇩🇪é", "▁a ▁ b", "hello hello!!",
  "I'M we'Ve x'ſ 'tis", "aaaaaaaaaaaaaaaaaaa",
  "<|eot_id|>the<|begin_of_text|> and", "\u0000\u0001\uffff\u{10ffff}",
  "éé日本日", "a\u00a0\u2028\u3000b  \n  \n  c",
  "=".repeat(70), "an".repeat(40), "½²Ⅷ٣٤٥",
];
const lists = [
  [], [326, 326], [9999, 5, 511], [3, 4, 5], [229, 165, 164, 3], [198, 300], [243, 147, 154, 300, 243, 147, 154, 131],
  [0, 1, 2, 301], [513, 514, 515, 516, 517, 518], [230, 152, 165, 230, 152],
  [97, 0xe2, 0x82, 97], [0xf0, 0x9f, 0xe2, 0x82],
];

(async () => {
  const out = [];
  for (const [name, patch] of Object.entries(variants)) {
    const rust = Tokenizer.fromString(JSON.stringify({ ...base, ...patch }));
    const cases = [];
    for (const [i, text] of texts.entries()) {
      const ids = (await rust.encode(text)).getIds();
      const list = lists[i % lists.length];
      const decoded = await rust.decode(ids, false), listDecoded = await rust.decode(list, false);
      cases.push({ text, ids, decoded, list, listDecoded });
    }
    out.push({ name, patch, cases });
  }
  fs.writeFileSync("rust.json", JSON.stringify(out) + "\n");
})();
