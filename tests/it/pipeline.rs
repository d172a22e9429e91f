//! Whole pipelines: from a simulated vendor to the tables and the lake.

use kit::db::TestDb;

#[tokio::test]
async fn a_test_database_is_migrated_and_its_own() {
    let (a, b) = (TestDb::new().await, TestDb::new().await);
    sqlx::query("insert into ops.schedules (schedule, last_tick) values ('x', now())").execute(&a.pool).await.unwrap();
    let seen: i64 = sqlx::query_scalar("select count(*) from ops.schedules").fetch_one(&b.pool).await.unwrap();
    assert_eq!(seen, 0);
}
