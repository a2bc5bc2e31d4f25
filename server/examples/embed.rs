//! A member inside another program, spoken to without a socket.

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = retcd::Server::start(retcd::Config::ephemeral("embed.etcd"))?;
    let client = server.client();
    client.put("greeting", "hello").await?;
    println!("{:?}", client.get("greeting").await?);
    server.stop();
    Ok(())
}
