//! Pages: shared by texts with a common beginning, counted against a budget, read back from bytes, and never the reason
//! for another result.

use std::sync::Arc;

use kernels::Team;
use model::{Budget, Error, KvCache, KvType, Logits, Model, PAGE, Workspace};
use testkit::TinyOptions;

use crate::support::{logits, open, tokens};

const TOKENS: usize = 2 * PAGE + 20;

/// What a test computes with, and the logits that its text has without any of what is tested.
struct Case {
    _folder: tempfile::TempDir,
    model: Model,
    team: Team,
    workspace: Workspace,
    kv_type: KvType,
    tokens: Vec<u32>,
    expected: Vec<f32>,
}

impl Case {
    /// A model with sliding windows and one without, in halves and packed.
    fn all() -> impl Iterator<Item = Case> {
        [("gemma3", 16, KvType::F16), ("llama", 32, KvType::Q8_0), ("qwen2", 32, KvType::Q4_0)]
            .into_iter()
            .map(|(architecture, head_dim, kv_type)| {
                let options = TinyOptions { head_dim, ..TinyOptions::new(architecture) };
                let (folder, model) = open(&testkit::tiny_model(&options)).unwrap();
                let tokens = tokens(&model.config, TOKENS);
                let team = Team::new(2);
                let expected = logits(&model, &team, kv_type, &tokens, TOKENS);
                let workspace = Workspace::new(&model.config, TOKENS);
                Case { _folder: folder, model, team, workspace, kv_type, tokens, expected }
            })
    }

    fn cache(&self, budget: &Budget) -> KvCache {
        KvCache::with_budget(&self.model.config, TOKENS, self.kv_type, budget).unwrap()
    }

    /// Computes the tokens up to `end` that the cache does not have, and compares.
    fn run(&mut self, cache: &mut KvCache, end: usize) -> Result<(), Error> {
        let (start, width) = (cache.len(), self.model.config.vocabulary);
        let tokens = &self.tokens[start..end];
        let got = self.model.forward(&self.team, &mut self.workspace, cache, tokens, Logits::All)?;
        assert!(got == &self.expected[start * width..end * width], "{:?} {start}..{end}", self.kv_type);
        Ok(())
    }
}

#[test]
fn pages_come_as_they_are_needed_and_go_back() {
    for mut case in Case::all() {
        let budget = Budget::unlimited();
        let mut cache = case.cache(&budget);
        let page = cache.page_bytes();
        for (end, pages) in [(1, 1), (PAGE, 1), (PAGE + 1, 2), (TOKENS, 3)] {
            case.run(&mut cache, end).unwrap();
            assert_eq!((budget.used(), cache.bytes_held()), (pages * page, pages * page));
        }
        assert_eq!(KvCache::bytes(&case.model.config, TOKENS, case.kv_type), 3 * page);
        for (len, pages) in [(2 * PAGE + 1, 3), (2 * PAGE, 2), (PAGE - 1, 1), (PAGE, 1), (0, 0)] {
            cache.truncate(len);
            assert_eq!(budget.used(), pages * page);
        }
        case.run(&mut cache, TOKENS).unwrap();
        drop(cache);
        assert_eq!(budget.used(), 0);
    }
}

#[test]
fn a_budget_that_is_used_up_is_an_error_and_changes_nothing() {
    for mut case in Case::all() {
        let page = case.cache(&Budget::unlimited()).page_bytes();
        let budget = Budget::new(3 * page - 1);
        let mut cache = case.cache(&budget);
        case.run(&mut cache, 10).unwrap();
        // Two pages more do not fit: not even the one that would is kept.
        let error = case.run(&mut cache, TOKENS).unwrap_err();
        let Error::Budget { needed, free, limit, .. } = error else { panic!("{error}") };
        assert_eq!((needed, free, limit), (page, page - 1, 3 * page - 1));
        assert_eq!((cache.len(), budget.used()), (10, page));
        case.run(&mut cache, 2 * PAGE).unwrap();
        let mut other = case.cache(&budget);
        assert!(matches!(case.run(&mut other, 1), Err(Error::Budget { .. })));
        cache.truncate(PAGE);
        case.run(&mut other, 1).unwrap();
        drop(other);
        let _elsewhere = budget.take("something else", page).unwrap();
        assert!(matches!(case.run(&mut cache, TOKENS), Err(Error::Budget { .. })));
    }
}

#[test]
fn forks_share_pages_until_they_write() {
    for mut case in Case::all() {
        let budget = Budget::unlimited();
        let mut cache = case.cache(&budget);
        let page = cache.page_bytes();
        case.run(&mut cache, PAGE + 10).unwrap();
        let mut forks = [cache.clone(), cache.clone()];
        assert_eq!(budget.used(), 2 * page);
        for fork in &mut forks {
            case.run(fork, PAGE + 30).unwrap();
        }
        // The first page is everybody's, the second each one's own.
        assert_eq!(budget.used(), 4 * page);
        // One that is cut back into a page that others have does not write into theirs either.
        forks[0].truncate(30);
        case.run(&mut forks[0], TOKENS).unwrap();
        let [_, second] = &mut forks;
        case.run(second, TOKENS).unwrap();
        case.run(&mut cache, TOKENS).unwrap();
    }
}

#[test]
fn pages_serve_another_cache() {
    for mut case in Case::all() {
        let budget = Budget::unlimited();
        let mut cache = case.cache(&budget);
        case.run(&mut cache, TOKENS).unwrap();
        assert_eq!(cache.full_pages().len(), 2);
        let copies = cache.full_pages().iter().map(|page| cache.read_page(&mut page.bytes()).unwrap());
        let copies: Vec<_> = copies.map(Arc::new).collect();
        for pages in [cache.full_pages()[..1].to_vec(), cache.full_pages().to_vec(), copies, Vec::new()] {
            let mut other = case.cache(&budget);
            case.run(&mut other, 7).unwrap();
            let count = pages.len();
            other.adopt(pages).unwrap();
            assert_eq!(other.len(), count * PAGE);
            case.run(&mut other, TOKENS).unwrap();
        }
        let bytes = cache.full_pages()[0].bytes();
        assert!(matches!(cache.read_page(&mut &bytes[1..]), Err(Error::Io { .. })));
    }
}

#[test]
fn pages_that_do_not_fit_are_refused() {
    let mut cases: Vec<Case> = Case::all().collect();
    let mut foreign = cases[0].cache(&Budget::unlimited());
    cases[0].run(&mut foreign, PAGE).unwrap();
    let mut cache = cases[1].cache(&Budget::unlimited());
    cases[1].run(&mut cache, 100).unwrap();
    let error = cache.adopt(foreign.full_pages().to_vec()).unwrap_err();
    assert!(matches!(error, Error::Mismatch { what: "page" }), "{error}");
    let error = cache.adopt(vec![Arc::clone(&cache.full_pages()[0]); 3]).unwrap_err();
    assert!(matches!(error, Error::ContextFull { needed: 192, capacity: TOKENS }), "{error}");
    cases[1].run(&mut cache, TOKENS).unwrap();
    cache.advance(usize::MAX);
    assert_eq!(cache.len(), TOKENS);
}
