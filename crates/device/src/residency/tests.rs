//! Paper cases: models whose sizes are known, within limits that people have.

use gguf::{Metadata, TensorInfo, Value};

use super::*;
use crate::predict::Fit;
use crate::shape::VocabularyShape;

/// A model in the common mixture of 4 and 6 bits.
struct Model {
    architecture: &'static str,
    layers: usize,
    width: usize,
    heads: usize,
    kv_heads: usize,
    hidden: usize,
    /// How many there are, and how many a token meets.
    experts: Option<(usize, usize)>,
    vocabulary: usize,
    tied: bool,
}

const SMALL: Model = Model {
    architecture: "qwen2",
    layers: 28,
    width: 1536,
    heads: 12,
    kv_heads: 2,
    hidden: 8960,
    experts: None,
    vocabulary: 151_936,
    tied: true,
};
const MIDDLE: Model = Model {
    architecture: "llama",
    layers: 32,
    width: 4096,
    heads: 32,
    kv_heads: 8,
    hidden: 14_336,
    experts: None,
    vocabulary: 128_256,
    tied: false,
};
const LARGE: Model = Model {
    architecture: "qwen2",
    layers: 48,
    width: 5120,
    heads: 40,
    kv_heads: 8,
    hidden: 13_824,
    experts: None,
    vocabulary: 152_064,
    tied: false,
};

/// 30 billion weights, of which a token meets 3.
const MIXTURE: Model = Model {
    architecture: "qwen3moe",
    layers: 48,
    width: 2048,
    heads: 32,
    kv_heads: 4,
    hidden: 768,
    experts: Some((128, 8)),
    vocabulary: 151_936,
    tied: false,
};

const Q4_K: u32 = 12;
const Q6_K: u32 = 14;

impl Model {
    fn shape(&self) -> Shape {
        let mut metadata = Metadata::new();
        let mut number = |key: &str, value: usize| {
            metadata.insert(format!("{}.{key}", self.architecture), Value::U32(value as u32));
        };
        number("block_count", self.layers);
        number("embedding_length", self.width);
        number("attention.head_count", self.heads);
        number("attention.head_count_kv", self.kv_heads);
        number("feed_forward_length", self.hidden);
        number("context_length", 32_768);
        number("vocab_size", self.vocabulary);
        if let Some((count, used)) = self.experts {
            number("expert_count", count);
            number("expert_used_count", used);
            number("expert_feed_forward_length", self.hidden);
        }
        let epsilon = format!("{}.attention.layer_norm_rms_epsilon", self.architecture);
        metadata.insert(epsilon, Value::F32(1e-5));
        metadata.insert("general.architecture", Value::String(self.architecture.to_owned()));
        let (width, hidden, kv) = (self.width, self.hidden, self.width / self.heads * self.kv_heads);
        let mut tensors: Vec<TensorInfo> = (0..self.layers)
            .flat_map(|layer| {
                let finer = if layer % 2 == 0 { Q6_K } else { Q4_K };
                [
                    ("attn_q", width, width, Q4_K),
                    ("attn_k", width, kv, Q4_K),
                    ("attn_v", width, kv, finer),
                    ("attn_output", width, width, Q4_K),
                    ("ffn_gate", width, hidden, Q4_K),
                    ("ffn_up", width, hidden, Q4_K),
                    ("ffn_down", hidden, width, finer),
                ]
                .map(|(name, columns, rows, id)| {
                    let of_experts = self.experts.filter(|_| name.starts_with("ffn"));
                    let (ending, count) = of_experts.map_or(("", 1), |(count, _)| ("_exps", count));
                    tensor(format!("blk.{layer}.{name}{ending}.weight"), columns, rows, count, id)
                })
            })
            .collect();
        tensors.push(tensor("token_embd.weight".to_owned(), width, self.vocabulary, 1, Q6_K));
        if !self.tied {
            tensors.push(tensor("output.weight".to_owned(), width, self.vocabulary, 1, Q6_K));
        }
        let vocabulary = VocabularyShape { tokens: self.vocabulary, merges: 151_387, text_bytes: 5 << 20 };
        Shape { vocabulary, ..Shape::new(&metadata, &tensors).unwrap() }
    }
}

fn tensor(name: String, columns: usize, rows: usize, count: usize, type_id: u32) -> TensorInfo {
    let block = if type_id == Q4_K { 144 } else { 210 };
    let bytes = (columns * rows * count / 256 * block) as u64;
    let shape = vec![columns as u64, rows as u64, count as u64];
    TensorInfo { name, shape, type_id, part: 0, offset: 0, bytes }
}

fn room(bytes: u64) -> Room {
    Room { bytes, limit_bytes: bytes + 10_000_000, by: "cgroup v1", path: None }
}

fn demand(context: usize) -> Demand {
    Demand { context, least_context: context, kv_type: None, batch: 256, threads: 4, beside: 0 }
}

/// What every plan must keep to.
fn check(shape: &Shape, plan: &Residency, room: &Room) {
    assert!(plan.memory.resident_bytes() <= room.bytes, "{plan:?}");
    let (kv, buffers) = (plan.memory.kv_cache_bytes, plan.memory.buffers_bytes);
    assert!(kv + buffers <= plan.budget_bytes && plan.budget_bytes + plan.fixed_bytes() == room.bytes);
    assert_eq!(plan.streams(), plan.memory.streaming_bytes > 0);
    if plan.streams() {
        let more = match plan.resident {
            Resident::Layers(layers) => Resident::Layers(layers + 1),
            Resident::Experts(experts) => Resident::Experts(experts + 1),
            Resident::All => unreachable!("it streams"),
        };
        let more = plan.memory.keeping(shape, more);
        assert!(more.resident_bytes() > room.bytes, "another layer could stay: {plan:?}");
    }
}

fn plan(model: &Model, demand: &Demand, bytes: u64) -> Residency {
    let (shape, room) = (model.shape(), room(bytes));
    let plan = residency(&shape, demand, &room).unwrap_or_else(|refusal| panic!("{refusal}"));
    check(&shape, &plan, &room);
    plan
}

#[test]
fn with_plenty_nothing_is_given_up() {
    for model in [SMALL, MIDDLE, LARGE] {
        let plan = plan(&model, &demand(8192), 64 << 30);
        assert_eq!((plan.context, plan.kv_type, plan.batch), (8192, KvType::F16, 256));
        assert!(!plan.streams());
    }
    let endless = residency(&SMALL.shape(), &demand(8192), &Room::endless()).unwrap();
    assert_eq!((endless.resident, endless.kv_type), (Resident::All, KvType::F16));
}

#[test]
fn what_is_left_to_others_is_not_planned_with() {
    for bytes in [900_000_000, 1_100_000_000, 2_000_000_000] {
        let beside = Demand { beside: 150_000_000, ..demand(4096) };
        let (shape, all) = (SMALL.shape(), room(bytes));
        let plan = residency(&shape, &beside, &all).unwrap();
        check(&shape, &plan, &room(bytes - beside.beside));
        assert_eq!(plan, residency(&shape, &demand(4096), &room(bytes - beside.beside)).unwrap());
    }
    let beside = Demand { beside: 1 << 30, ..demand(4096) };
    let refusal = residency(&SMALL.shape(), &beside, &room(1 << 30)).unwrap_err();
    let limit = refusal.least_limit;
    let enough = Room { bytes: limit - 10_000_000, limit_bytes: limit, ..room(0) };
    assert!(residency(&SMALL.shape(), &beside, &enough).is_ok());
}

#[test]
fn models_far_larger_than_the_limit_stream() {
    let small = plan(&SMALL, &demand(1024), 490_000_000);
    assert!(small.streams() && small.kv_type == KvType::F16 && small.batch == 256, "{small:?}");
    // 8 and 14 billion weights of 5 bits each, with the slack that the kernel takes of limits of 3 and 4 GB.
    let middle = plan(&MIDDLE, &demand(4096), 2_950_000_000);
    assert!(matches!(middle.resident, Resident::Layers(4..28)), "{middle:?}");
    let large = plan(&LARGE, &demand(4096), 3_930_000_000);
    assert!(matches!(large.resident, Resident::Layers(4..28)), "{large:?}");
}

#[test]
fn a_mixture_of_experts_holds_as_many_of_them_as_there_is_room_for() {
    assert_eq!(plan(&MIXTURE, &demand(4096), 32 << 30).resident, Resident::All);
    let some = plan(&MIXTURE, &demand(4096), 8_000_000_000);
    // A third of 18 GB, and everything that is no expert.
    assert!(matches!(some.resident, Resident::Experts(1500..2500)), "{some:?}");
    let shape = MIXTURE.shape();
    let refusal = residency(&shape, &demand(4096), &room(500_000_000)).unwrap_err();
    let limit = refusal.least_limit;
    let enough = Room { bytes: limit - 10_000_000, limit_bytes: limit, ..room(0) };
    assert_eq!(residency(&shape, &demand(4096), &enough).unwrap().resident, Resident::Experts(8));
}

/// What `plan` foretells of a phone is what the engine decides there.
#[test]
fn plans_foretell_what_is_decided() {
    let phone = crate::profile::catalogue::find("oneplus-12").unwrap();
    let bytes = (phone.memory.free_gb.value * 1e9) as u64;
    for model in [SMALL, LARGE, MIXTURE] {
        let shape = model.shape();
        let setting = Setting {
            context: 4096,
            kv_type: KvType::F16,
            batch: 256,
            prompt: 512,
            at_context: 512,
            threads: Some(4),
        };
        let foretold = crate::plan(&phone, &shape, &setting);
        let demand = Demand { kv_type: Some(KvType::F16), ..demand(4096) };
        let decided = residency(&shape, &demand, &room(bytes)).unwrap();
        assert_eq!((foretold.memory, foretold.recommendation.batch), (decided.memory, decided.batch));
        // Of all layers those that do not stay; of 8 experts in each of 48 layers as many as are not held.
        let (stays, of, read) = match foretold.verdict.fit {
            Fit::Fits => (Resident::All, 1.0, 0.0),
            Fit::Streams { resident_layers, resident_experts: 0, .. } => {
                let all: u64 = shape.layers.iter().map(crate::LayerShape::bytes).sum();
                (Resident::Layers(resident_layers), 48.0, all as f64)
            }
            Fit::Streams { resident_layers: 48, resident_experts, .. } => {
                let all: u64 = shape.expert_matrices().map(crate::MatrixShape::bytes).sum();
                (Resident::Experts(resident_experts), 48.0 * 128.0, all as f64 * 8.0 / 128.0)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(stays, decided.resident);
        if let (Fit::Streams { streamed_bytes, .. }, Resident::Layers(count) | Resident::Experts(count)) =
            (foretold.verdict.fit, stays)
        {
            let expected = read * (1.0 - count as f64 / of);
            assert!((streamed_bytes as f64 / expected - 1.0).abs() < 1e-6, "{streamed_bytes} {expected}");
        }
    }
}

#[test]
fn what_costs_least_is_given_up_first() {
    let whole = plan(&SMALL, &demand(8192), 64 << 30).memory;
    let (all, kv) = (whole.resident_bytes(), whole.kv_cache_bytes);
    let smaller = plan(&SMALL, &demand(8192), all - 1);
    assert_eq!((smaller.batch, smaller.kv_type, smaller.streams()), (128, KvType::F16, false));
    let packed = plan(&SMALL, &demand(8192), all - kv / 4);
    assert_eq!((packed.kv_type, packed.streams()), (KvType::Q8_0, false));
    let chosen = Demand { kv_type: Some(KvType::F16), ..demand(8192) };
    assert!(plan(&SMALL, &chosen, all - kv / 4).streams(), "whoever chose the halves gets them");
    // Whoever asked for no context gets a shorter one before layers have to be read for every token.
    let modest = Demand { least_context: 2048, ..demand(8192) };
    let shorter = plan(&SMALL, &modest, all - kv / 4 * 3);
    assert_eq!((shorter.context, shorter.streams()), (4096, false));
    assert!(plan(&SMALL, &demand(8192), all - kv / 4 * 3).streams());
}

#[test]
fn a_refusal_names_the_smallest_limit_and_with_it_there_is_a_plan() {
    let shape = SMALL.shape();
    for demand in [
        demand(8192),
        Demand { kv_type: Some(KvType::F16), ..demand(8192) },
        Demand { least_context: 512, ..demand(4096) },
    ] {
        let room = room(250_000_000);
        let refusal = residency(&shape, &demand, &room).unwrap_err();
        assert_eq!(refusal.missing, refusal.needed - room.bytes);
        let limit = refusal.least_limit;
        let enough = Room { bytes: limit - 10_000_000, limit_bytes: limit, ..room.clone() };
        check(&shape, &residency(&shape, &demand, &enough).unwrap(), &enough);
        let short = Room { bytes: enough.bytes - 1, ..enough };
        assert!(residency(&shape, &demand, &short).is_err());
        assert!(refusal.to_string().contains("cgroup v1 leaves 250 MB"), "{refusal}");
    }
}

#[test]
fn what_a_refusal_says_would_help_helps() {
    let shape = SMALL.shape();
    let needed = residency(&shape, &demand(8192), &room(0)).unwrap_err().needed;
    let chosen = Demand { kv_type: Some(KvType::F16), ..demand(8192) };
    let refusal = residency(&shape, &chosen, &room(needed)).unwrap_err();
    assert!(refusal.helps.iter().any(|help| help.contains("--kv q8_0")), "{refusal}");
    assert!(refusal.helps.iter().any(|help| help == "a context of 4096 tokens"), "{refusal}");
    for better in [demand(8192), Demand { least_context: 4096, ..chosen }] {
        assert!(residency(&shape, &better, &room(needed)).is_ok());
    }
    let hopeless = residency(&shape, &demand(8192), &room(1_000_000)).unwrap_err();
    assert_eq!(hopeless.helps, ["a smaller model"]);
}
