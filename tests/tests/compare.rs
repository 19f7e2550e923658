//! `lateen-bench compare` with the proxy itself: both engines are measured, under both profiles, and a
//! change of config by way of the control plane loses no request.

use lateen_tests::binary;
use serde_json::Value;
use std::fs;
use std::process::Command;

#[test]
fn lateen_is_measured_and_loses_nothing_when_its_config_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("results.json");
    // The control plane is looked for beside the proxy, where cargo puts both.
    let (proxy, _) = (binary::proxy(), binary::lateen());
    let output = Command::new(binary::bench())
        .args([
            "compare",
            "--peers",
            "lateen,lateen-epoll",
            "--profile",
            "bare,mesh",
            "--runs",
            "1",
        ])
        .args(["--scenarios", "http1-keepalive-1,tcp-64,config-change", "--requests", "500"])
        .args(["--repeats", "0", "--peer-bin", &format!("lateen={}", proxy.display()), "--out"])
        .arg(&out)
        .output()
        .expect("lateen-bench runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results: Value =
        serde_json::from_str(&fs::read_to_string(&out).expect("results")).expect("they are JSON");
    let rows = results["rows"].as_array().expect("rows");
    // TCP has no request log, and so no row in the profile mesh.
    assert_eq!(rows.len(), 5, "{results:#}");
    for row in rows {
        for entry in row["entries"].as_array().expect("entries") {
            let what = format!("{} {}: {entry:#}", row["scenario"], row["profile"]);
            assert_eq!(entry["not_run"], Value::Null, "{what}");
            let sample = &entry["samples"][0];
            assert_eq!(sample["discarded"], Value::Null, "{what}");
            if row["kind"] == "change" {
                assert!(sample["change"]["changes"].as_u64() > Some(0), "{what}");
                assert_eq!(sample["change"]["failed"], 0, "{what}");
            } else {
                assert_eq!(sample["load"]["requests"], 500, "{what}");
                assert!(sample["cost"]["cpu_us"].as_f64() > Some(0.0), "{what}");
            }
        }
    }
}
