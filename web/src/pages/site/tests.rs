use super::*;
use crate::testing::{Site as Plant, name};

/// Shows the plan at `path` and agrees to it with a fresh code.
async fn agreed(site: &Plant, browser: &crate::testing::Browser, person: &str, path: &str) -> u16 {
    let shown = browser.get(path).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    let (edit, digest) = (unescaped(&shown.field("edit").unwrap()), shown.field("digest").unwrap());
    let code = site.code(person);
    let fields = [("edit", edit.as_str()), ("digest", &digest), ("code", &code)];
    browser.post("/site/apply", &fields).await.status.as_u16()
}

fn unescaped(text: &str) -> String {
    text.replace("&#34;", "\"").replace("&quot;", "\"").replace("&#39;", "'").replace("&#38;", "&")
}

#[tokio::test]
async fn a_person_is_disabled_and_enabled_by_what_was_shown() {
    let site = Plant::new().await;
    let ada = site.log_in("ada").await;
    let vera = site.log_in("vera").await;
    assert_eq!(agreed(&site, &ada, "ada", "/people/vera/plan/disable").await, 303);
    assert!(site.store().site().await.unwrap().user(&name("vera")).unwrap().disabled);
    assert_eq!(vera.get("/account").await.status, 303, "her log-in is over");
    assert_eq!(agreed(&site, &ada, "ada", "/people/vera/plan/enable").await, 303);
    assert!(!site.store().site().await.unwrap().user(&name("vera")).unwrap().disabled);
}

#[tokio::test]
async fn an_administrator_has_the_sessions_of_an_asset_watched_and_others_only_read_that() {
    let site = Plant::new().await;
    let ada = site.log_in("ada").await;
    let supervised = async || site.store().site().await.unwrap().asset(&name("pump-hmi")).unwrap().supervised;
    assert!(ada.get("/assets/pump-hmi").await.text.contains("/assets/pump-hmi/plan/supervise"));
    assert_eq!(agreed(&site, &ada, "ada", "/assets/pump-hmi/plan/supervise").await, 303);
    assert!(supervised().await);
    let sam = site.log_in("sam").await;
    let page = sam.get("/assets/pump-hmi").await.text;
    assert!(page.contains(">supervised</span>") && !page.contains("/plan/"), "{page}");
    assert!(sam.get("/assets").await.text.contains(">supervised</span>"));
    for person in ["olga", "sam", "ivan", "vera"] {
        let browser = site.log_in(person).await;
        assert_eq!(browser.get("/assets/pump-hmi/plan/unsupervise").await.status, 403, "{person}");
    }
    for wrong in ["/assets/none/plan/supervise", "/assets/pump-hmi/plan/remove"] {
        assert_eq!(ada.get(wrong).await.status, 404, "{wrong}");
    }
    assert_eq!(agreed(&site, &ada, "ada", "/assets/pump-hmi/plan/unsupervise").await, 303);
    assert!(!supervised().await);
}

#[tokio::test]
async fn a_plan_is_not_carried_out_for_another_change_or_without_a_code() {
    let site = Plant::new().await;
    let ada = site.log_in("ada").await;
    let shown = ada.get("/people/vera/plan/disable").await;
    let (edit, digest) = (unescaped(&shown.field("edit").unwrap()), shown.field("digest").unwrap());
    let without = ada.post("/site/apply", &[("edit", &edit), ("digest", &digest)]).await;
    assert_eq!(without.status, 403);
    let other = edit.replace("vera", "olga");
    let code = site.code("ada");
    let swapped = ada.post("/site/apply", &[("edit", &other), ("digest", &digest), ("code", &code)]).await;
    assert_eq!(swapped.status, 409, "{}", swapped.text);
    let now = site.store().site().await.unwrap();
    assert!(["vera", "olga"].iter().all(|p| !now.user(&name(p)).unwrap().disabled));
}

#[tokio::test]
async fn nobody_disables_or_promotes_themselves() {
    let site = Plant::new().await;
    let ada = site.log_in("ada").await;
    assert_eq!(agreed_anyway(&site, &ada, "/people/ada/plan/disable").await, 403);
    ada.get("/people/ada/edit").await;
    let fields = [
        ("known", "true"),
        ("name", "ada"),
        ("organisation", "plant"),
        ("duties", "administrator"),
        ("duties", "operations"),
    ];
    let shown = ada.post("/people/change", &fields).await;
    assert!(shown.text.contains("nobody changes their own duties"), "{}", shown.text);
    assert!(shown.field("digest").is_none(), "there is nothing to agree to");
}

/// Agrees to a plan whose page offers nothing to agree to.
async fn agreed_anyway(site: &Plant, browser: &crate::testing::Browser, path: &str) -> u16 {
    browser.get(path).await;
    let edit = Edit::Disable(name("ada"));
    let proposal = change::propose(&site.app(), edit.clone()).await.unwrap();
    let (edit, digest) = (serde_json::to_string(&edit).unwrap(), proposal.digest());
    let code = site.code("ada");
    let fields = [("edit", edit.as_str()), ("digest", &digest), ("code", &code)];
    browser.post("/site/apply", &fields).await.status.as_u16()
}

#[tokio::test]
async fn what_is_downloaded_can_be_planned_again_and_changes_nothing() {
    let site = Plant::new().await;
    let ada = site.log_in("ada").await;
    let file = ada.get("/site/export").await;
    assert_eq!(file.header("content-type"), "application/toml");
    ada.get("/site").await;
    let shown = ada.post("/site/plan", &[("text", &file.text)]).await;
    assert!(shown.text.contains("Nothing to do"), "{}", shown.text);
    let wrong = ada.post("/site/plan", &[("text", "zones = 7")]).await;
    assert!(wrong.status == 200 && wrong.text.contains("cannot be applied"), "{}", wrong.text);
}

#[tokio::test]
async fn a_person_is_added_invited_and_enrols_by_the_link() {
    let site = Plant::new().await;
    let ada = site.log_in("ada").await;
    ada.get("/add/person").await;
    let fields = [
        ("known", "false"),
        ("name", "nils"),
        ("full_name", "Nils <b>New</b>"),
        ("organisation", "acme-pumps"),
        ("duties", "vendor"),
    ];
    let shown = ada.post("/people/change", &fields).await;
    assert!(!shown.text.contains("<b>New"), "{}", shown.text);
    let (edit, digest) = (unescaped(&shown.field("edit").unwrap()), shown.field("digest").unwrap());
    let edit = edit.replace("&lt;", "<").replace("&#60;", "<").replace("&#62;", ">").replace("&gt;", ">");
    let code = site.code("ada");
    let done = ada.post("/site/apply", &[("edit", &edit), ("digest", &digest), ("code", &code)]).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(ada.get("/people/nils").await.status, 200);
    let code = site.code("ada");
    let invited = ada.post("/people/nils/invite", &[("hours", "2"), ("code", &code)]).await;
    let (_, rest) = invited.text.split_once("https://localhost:8443/enrol/").expect("a link");
    let path = format!("/enrol/{}", rest.split('<').next().unwrap());
    assert_eq!(site.browser().get(&path).await.status, 200);
    assert!(!ada.get("/people/nils").await.text.contains("/enrol/"), "the link is shown once");
}

#[tokio::test]
async fn only_administrators_describe_the_site() {
    let site = Plant::new().await;
    for person in ["vera", "emil", "olga", "sam", "ivan"] {
        let browser = site.log_in(person).await;
        for path in ["/people", "/people/vera", "/people/vera/plan/disable", "/site", "/site/export"] {
            assert_eq!(browser.get(path).await.status, 403, "{person} {path}");
        }
        for path in ["/site/plan", "/site/apply", "/people/change", "/people/vera/invite"] {
            assert_eq!(browser.post(path, &[]).await.status, 403, "{person} {path}");
        }
    }
}

#[tokio::test]
async fn zones_and_assets_are_shown_to_those_who_read_the_site() {
    let site = Plant::new().await;
    site.approved(|_| ()).await;
    let sam = site.log_in("sam").await;
    let shown = sam.get("/zones").await;
    assert!(
        shown.text.contains("vera until") && shown.text.contains("class=\"conduit open\""),
        "{}",
        shown.text
    );
    let other = sam.get("/zones?who=emil").await;
    assert!(!other.text.contains("class=\"conduit open\""));
    let asset = sam.get("/assets/pump-hmi").await;
    assert!(asset.text.contains("SHA256:") && asset.text.contains("missing"), "{}", asset.text);
    assert_eq!(sam.get("/assets/none").await.status, 404);
    assert_eq!(site.log_in("vera").await.get("/assets").await.status, 403);
}

#[test]
fn the_pages_render_with_what_people_typed_escaped() {
    let frame = Frame::sample("/zones");
    let page = PlanPage {
        steps: vec![StepRow {
            verb: "change",
            kind: "user",
            name: "vera".into(),
            cuts: true,
            fields: vec![FieldRow {
                field: "full_name".into(),
                before: "<script>".into(),
                after: "<script>".into(),
            }],
        }],
        cuts: true,
        refusal: None,
        edit: "\"><script>".into(),
        digest: "0".repeat(64),
        digest_parts: frame::grouped(&"0".repeat(64)),
        action: change::ACTION,
        back: "/site".into(),
        frame: frame.clone(),
    };
    assert!(!page.render().unwrap().contains("<script>"));
    let page = FilePage { frame, problem: Some("<script>".into()), text: "</textarea><script>".into() };
    assert!(!page.render().unwrap().contains("<script>"));
}
