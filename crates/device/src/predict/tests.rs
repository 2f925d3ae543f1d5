//! Paper cases: devices and models whose figures can be worked out by hand.

use gguf::{Metadata, TensorInfo, Value};
use kernels::ops::attention::KvType;

use super::*;
use crate::Profile;

const LAYERS: usize = 4;
const WIDTH: usize = 2048;

/// A model of square matrices of Q8_0: 34 bytes for 32 weights. Four in attention with as many heads for keys, three of
/// the same size in the feed-forward block, and a vocabulary as wide.
fn shape() -> Shape {
    let mut metadata = Metadata::new();
    let mut number = |key: &str, value: usize| {
        metadata.insert(format!("llama.{key}"), Value::U32(value as u32));
    };
    number("block_count", LAYERS);
    number("embedding_length", WIDTH);
    number("attention.head_count", WIDTH / 64);
    number("feed_forward_length", WIDTH);
    number("context_length", 8192);
    number("vocab_size", WIDTH);
    metadata.insert("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    metadata.insert("general.architecture", Value::String("llama".to_owned()));
    let matrix = |name: String| TensorInfo {
        name,
        shape: vec![WIDTH as u64; 2],
        type_id: 8,
        part: 0,
        offset: 0,
        bytes: (WIDTH * WIDTH / 32 * 34) as u64,
    };
    let of_a_layer = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
    let layers =
        (0..LAYERS).flat_map(|layer| of_a_layer.map(|name| matrix(format!("blk.{layer}.{name}.weight"))));
    let tensors: Vec<TensorInfo> = layers.chain([matrix("token_embd.weight".to_owned())]).collect();
    Shape::new(&metadata, &tensors).unwrap()
}

/// Bytes of one matrix.
const MATRIX: u64 = (WIDTH * WIDTH / 32 * 34) as u64;

/// A device that was measured: one thread, 10 GB/s, and nothing costs anything but reading weights and multiplying.
fn profile(free_gb: f64, limit_gb: f64, system: &str) -> Profile {
    let text = format!(
        r#"
name = "Paper"
chip = "Pencil"
system = "{system}"
class = "board"
cores = [{{ name = "Cortex-A76", count = 1, ghz = {{ value = 2.0, source = "paper" }} }}]
battery_wh = {{ value = 10, source = "paper" }}

[memory]
total_gb = {{ value = 8, source = "paper" }}
free_gb = {{ value = {free_gb}, source = "paper" }}
limit_gb = {{ value = {limit_gb}, source = "paper" }}

[storage]
kind = "tape"
read_gb_s = {{ value = 0.1, source = "paper" }}

[measured]
by = "hand"
isa = "paper"
teams = [{{ threads = 1, read_gb_s = 20.0, int8_gmac_s = 200.0, float_gmac_s = 1e9, phase_us = 0.0, products = [
  {{ format = "Q8_0", one_token_gb_s = 10.0, weight_ps = 100.0, many_gmac_s = 100.0 }},
  {{ format = "Q2_K", one_token_gb_s = 5.0, weight_ps = 100.0, many_gmac_s = 50.0 }} ] }}]
"#
    );
    Profile::parse("paper", &text).unwrap()
}

fn setting() -> Setting {
    Setting { context: 1024, kv_type: KvType::F16, batch: 256, prompt: 512, at_context: 0, threads: None }
}

#[test]
fn one_token_reads_every_matrix_once() {
    let plan = plan(&profile(6.0, 6.0, "Linux"), &shape(), &setting());
    let bytes = (LAYERS as u64 * 7 + 1) * MATRIX;
    assert_eq!(plan.memory.weights_bytes, bytes);
    let decode = plan.decode.unwrap();
    let expected = 0.85 * 10e9 / bytes as f64;
    assert!((decode.tok_s / expected - 1.0).abs() < 1e-3, "{} {expected}", decode.tok_s);
    assert_eq!(plan.verdict.fit, Fit::Fits);
    assert_eq!(plan.recommendation.resident_layers, LAYERS);
}

#[test]
fn what_stays_in_the_cache_is_not_read_from_memory() {
    let mut profile = profile(6.0, 6.0, "Linux");
    let cached = |mb: f64| Some(crate::Figure::measured(mb, "paper"));
    let bytes = (LAYERS as u64 * 7 + 1) * MATRIX;
    profile.cache_mb = cached(2.1 * bytes as f64 / 1e6);
    let decode = plan(&profile, &shape(), &setting()).decode.unwrap();
    // 100 ps to unpack a weight and 10 ps to multiply it.
    let seconds = (LAYERS * 7 + 1) as f64 * (WIDTH * WIDTH) as f64 * 110e-12;
    let from_memory = bytes as f64 / 10e9;
    let mapped = 0.85;
    assert!((decode.tok_s * seconds.min(from_memory) / mapped - 1.0).abs() < 1e-3, "{}", decode.tok_s);
    profile.measured.as_mut().unwrap().teams[0].products[0].weight_ps = 1.0;
    let faster = plan(&profile, &shape(), &setting()).decode.unwrap();
    assert!(faster.tok_s > 2.0 * decode.tok_s);
    profile.cache_mb = cached(1.9 * bytes as f64 / 1e6);
    assert!(plan(&profile, &shape(), &setting()).decode.unwrap().tok_s < 1.1 / from_memory);
}

#[test]
fn many_tokens_unpack_each_weight_once_a_batch() {
    let plan = plan(&profile(6.0, 6.0, "Linux"), &shape(), &setting());
    let weights = (LAYERS * 7 * WIDTH * WIDTH) as f64;
    // Two batches; the logits of the last token are read as for one.
    let (mixed, mapped) = (0.97, 0.9);
    let seconds = weights * (2.0 * 100e-12 + 512.0 / 100e9) / mixed + MATRIX as f64 / (mapped * 10e9);
    let prefill = plan.prefill.unwrap();
    assert!((prefill.tok_s / (512.0 / seconds) - 1.0).abs() < 1e-3, "{}", prefill.tok_s);
    // Warm, the prompt and the start; cold, the weights from storage besides.
    let (warm, cold) = (plan.first_token_warm_s.unwrap(), plan.first_token_cold_s.unwrap());
    assert!(warm >= seconds);
    assert!((cold - warm - plan.memory.mapped_bytes() as f64 / 0.1e9).abs() < 1e-6);
}

#[test]
fn keys_and_values_count_as_they_are_kept_and_read() {
    let (shape, profile) = (shape(), profile(6.0, 6.0, "Linux"));
    let of = |kv_type| plan(&profile, &shape, &Setting { kv_type, at_context: 1000, ..setting() });
    let (halves, packed) = (of(KvType::F16), of(KvType::Q8_0));
    // Keys and values of 1024 positions, 2 bytes each.
    assert_eq!(halves.memory.kv_cache_bytes, (2 * LAYERS * WIDTH * 1024 * 2) as u64);
    assert_eq!(packed.memory.kv_cache_bytes * 32, halves.memory.kv_cache_bytes * 17);
    // Attention reads 1001 positions at 20 GB/s.
    let seconds = (2 * LAYERS * WIDTH * 1001 * 2) as f64 / 20e9;
    let attention = halves.decode.unwrap().parts.attention_s;
    assert!((attention / seconds - 1.0).abs() < 1e-2, "{attention} {seconds}");
}

#[test]
fn what_does_not_fit_streams_the_layers_that_do_not() {
    // The smallest batch there is: nothing is won by a smaller one.
    let setting = Setting { batch: 32, ..setting() };
    let fits = plan(&profile(6.0, 6.0, "Linux"), &shape(), &setting);
    // Room for 19 of the 29 matrices: the logits and two layers in flight leave less than a layer.
    let free = fits.memory.resident_bytes() as f64 - 10.0 * MATRIX as f64;
    let plan = plan(&profile(free / 1e9, 6.0, "Linux"), &shape(), &setting);
    let Fit::Streams { resident_layers, resident_experts: 0, streamed_bytes } = plan.verdict.fit else {
        panic!("{:?}", plan.verdict)
    };
    assert_eq!((resident_layers, streamed_bytes), (0, LAYERS as u64 * 7 * MATRIX));
    assert_eq!(plan.recommendation.resident_layers, 0);
    // The matrix of the logits, and two layers on their way.
    assert_eq!((plan.memory.weights_bytes, plan.memory.streaming_bytes), (MATRIX, 2 * (7 * MATRIX + 8192)));
    let decode = plan.decode.unwrap();
    let reading = streamed_bytes as f64 / 0.1e9;
    assert!((decode.parts.total_s() / reading - 1.0).abs() < 1e-6, "reading hides computing");
    assert_eq!(plan.first_token_warm_s, plan.first_token_cold_s);
    // 29 matrices of 6.5 bits are as large as 22 of 8.5, of 5.5 bits as 18.8.
    assert_eq!(plan.recommendation.pack_to_bits, Some(5.5), "{:?}", plan.recommendation);
}

#[test]
fn smaller_batches_come_before_streaming() {
    let whole = plan(&profile(6.0, 6.0, "Linux"), &shape(), &setting());
    let free = whole.memory.resident_bytes() - whole.memory.buffers_bytes / 2;
    let tight = plan(&profile(free as f64 / 1e9, 6.0, "Linux"), &shape(), &setting());
    assert_eq!((whole.recommendation.batch, whole.verdict.fit), (256, Fit::Fits));
    assert_eq!((tight.recommendation.batch, tight.verdict.fit), (64, Fit::Fits));
    assert!(tight.memory.resident_bytes() <= free);
    assert!(tight.prefill.unwrap().tok_s < whole.prefill.unwrap().tok_s);
}

#[test]
fn too_long_a_context_ends_the_program_and_8_bits_can_save_it() {
    let (shape, long) = (shape(), Setting { context: 8192, ..setting() });
    let whole = plan(&profile(6.0, 6.0, "Linux"), &shape, &long).memory;
    let limit = (whole.anonymous_bytes() - whole.kv_cache_bytes / 4) as f64 / 1e9;
    let killed = plan(&profile(6.0, limit, "Linux"), &shape, &long);
    assert_eq!(killed.verdict.fit, Fit::Killed);
    assert!(killed.verdict.reason.contains("keys, values"), "{}", killed.verdict.reason);
    assert!(killed.decode.is_none() && killed.energy.is_none() && killed.first_token_warm_s.is_none());
    assert_eq!(killed.recommendation.kv, "q8_0");
    // Too little for two layers and the logits, whatever is done.
    let hopeless = plan(&profile(0.05, 6.0, "Linux"), &shape, &setting());
    assert_eq!(hopeless.verdict.fit, Fit::Killed);
    assert_eq!(hopeless.recommendation.pack_to_bits, None);
}

#[test]
fn each_system_counts_its_own_way() {
    let of = |system| plan(&profile(6.0, 6.0, system), &shape(), &setting());
    let (android, ios) = (of("Android"), of("iOS"));
    assert_eq!(android.counted_bytes, android.memory.resident_bytes());
    assert_eq!(ios.counted_bytes, ios.memory.anonymous_bytes());
}

#[test]
fn the_largest_file_fills_what_is_free() {
    let (shape, profile) = (shape(), profile(0.4, 6.0, "Linux"));
    let budget = size_budget(&profile, &shape, &setting()).unwrap();
    let fits = |bits: f64| {
        let memory = MemoryTable::of(&shape, &setting(), 1);
        let weights = shape.product_weights() as f64 * bits / 8.0;
        memory.resident_bytes() as f64 - memory.weights_bytes as f64 + weights <= 0.4e9
    };
    assert!(budget.bits < 8.5 || fits(8.5));
    assert!(fits(budget.bits - 0.01) && (budget.bits == 8.5 || !fits(budget.bits + 0.01)), "{budget:?}");
    let much = Setting { context: 1 << 20, ..setting() };
    assert_eq!(size_budget(&profile, &shape, &much), None);
}

#[test]
fn energy_is_what_cores_and_memory_take() {
    let plan = plan(&profile(6.0, 6.0, "Linux"), &shape(), &setting());
    let (energy, decode) = (plan.energy.unwrap(), plan.decode.unwrap());
    // A Cortex-A76 at 2 GHz takes 8 times what it takes at 1 GHz.
    let watts = 8.0 * crate::profile::core_type("Cortex-A76").unwrap().watts_at_1_ghz.value;
    assert!(energy.decode_j < watts / decode.tok_s + plan.memory.weights_bytes as f64 * 80e-12);
    assert!(energy.decode_j > 0.5 * watts / decode.tok_s);
    assert_eq!(energy.tokens_a_charge, Some(36_000.0 / energy.decode_j));
}

#[test]
fn threads_wait_where_heads_do_not_share_out_evenly() {
    let mut profile = profile(6.0, 6.0, "Linux");
    let measured = profile.measured.as_mut().unwrap();
    let three = crate::profile::Team { threads: 3, ..measured.teams[0].clone() };
    measured.teams.push(three);
    let attention = |threads| {
        let setting = Setting { threads: Some(threads), at_context: 100, ..setting() };
        plan(&profile, &shape(), &setting).decode.unwrap().parts.attention_s
    };
    // 32 heads are 11 rounds of three.
    assert!((attention(3) / attention(1) - 33.0 / 32.0).abs() < 1e-9);
}

#[test]
fn attention_goes_by_what_was_measured() {
    let mut profile = profile(6.0, 6.0, "Linux");
    profile.measured.as_mut().unwrap().teams[0].attention = vec![crate::profile::AttentionSpeed {
        kv: "f16".to_owned(),
        one_token_gnumber_s: 2.0,
        many_gmac_s: 10.0,
    }];
    let plan = plan(&profile, &shape(), &Setting { at_context: 999, ..setting() });
    let numbers = (2 * LAYERS * WIDTH * 1000) as f64;
    assert!((plan.decode.unwrap().parts.attention_s / (numbers / 2e9) - 1.0).abs() < 1e-9);
    // Every token of 512 sees those before it and itself, and both keys and values are multiplied.
    let macs = (2 * LAYERS * WIDTH * 512 * 513 / 2) as f64;
    assert!((plan.prefill.unwrap().parts.attention_s / (macs / 10e9) - 1.0).abs() < 1e-9);
}

#[test]
fn shorter_rows_than_the_probes_cost_more() {
    let mut profile = profile(6.0, 6.0, "Linux");
    profile.measured.as_mut().unwrap().teams[0].row_ns = 10.0;
    let speeds = Speeds::of(&profile, 1).unwrap();
    let format = kernels::FORMATS.iter().find(|format| format.name == "Q8_0").unwrap();
    let matrix = crate::MatrixShape { format, rows: 1000, columns: 1024, count: 1, used: 1 };
    let reading = matrix.bytes_read() / (0.85 * 10e9);
    // Half of what a row takes is in the rate.
    assert!((speeds.seconds(&matrix, u64::MAX) - reading - 1000.0 * 0.5 * 10e-9).abs() < 1e-15);
}

#[test]
fn of_speeds_that_are_equal_the_fewest_threads_win() {
    let speed = |threads, tok_s| Speed { tok_s, threads, parts: Parts::default() };
    let best = time::best([speed(1, 5.0), speed(2, 9.9), speed(4, 10.0), speed(8, 9.0)].into_iter());
    assert_eq!(best.unwrap().threads, 2);
}
