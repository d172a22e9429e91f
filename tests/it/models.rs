//! The SQL models: what they make of invented vendor rows.

#[tokio::test]
async fn every_model_can_be_planned() {
    let mut faults = Vec::new();
    for model in transforms::models::all().unwrap() {
        if let Err(fault) = model.check().await {
            faults.push(fault.chain());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
