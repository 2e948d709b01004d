//! The little HTTP that operators, and nodes among each other, are answered by: accept, serve, stop.
//!
//! In: a listener and an async function of a request. Out: answers. hyper does the protocol; the number of connections and the
//! time for a head are bounded here.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Time for a whole request head.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// An answer with its body in one piece.
pub type Answer = Response<Full<Bytes>>;

/// An answer of this status, type and body.
pub fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer that is only a word.
pub fn plain(status: StatusCode, text: &'static str) -> Answer {
    answer(status, "text/plain; charset=utf-8", text)
}

/// Serves so many connections at once until `stop` ends; answers under way are finished then. Connections end with it.
pub async fn serve<S, F>(
    listener: TcpListener,
    connections_max: usize,
    stop: impl Future<Output = ()>,
    answer: S,
) where
    S: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send,
{
    let places = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    let (tell, stopping) = watch::channel(false);
    loop {
        while connections.try_join_next().is_some() {}
        // Waiting for a place leaves the others in the listener's queue.
        let next = async { (places.clone().acquire_owned().await, listener.accept().await) };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        let socket = match accepted {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of descriptors or memory: waiting lets others finish, stopping would end the service.
                tracing::warn!(%error, "cannot accept connections");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = socket.set_nodelay(true);
        let (answer, mut stopping) = (answer.clone(), stopping.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_MAX)
                .serve_connection(TokioIo::new(socket), service);
            let mut connection = pin!(connection);
            let stopped = async { drop(stopping.wait_for(|stopping| *stopping).await) };
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = stopped => None,
            };
            let ended = match ended {
                Some(ended) => ended,
                None => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    tell.send_replace(true);
    while connections.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: node\r\n\r\n";

    /// A server whose answers wait until `gate` opens; ends when told to.
    async fn server(
        places: usize,
        gate: watch::Receiver<bool>,
    ) -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let answered = move |_| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|open| *open).await;
                plain(StatusCode::OK, "here")
            }
        };
        let serving = tokio::spawn(async move {
            serve(listener, places, async { drop(ended.await) }, answered).await;
        });
        (address, end, serving)
    }

    async fn asks(address: SocketAddr) -> TcpStream {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(REQUEST).await.unwrap();
        socket
    }

    /// Reads until the answer's last word.
    async fn hears(socket: &mut TcpStream) -> Vec<u8> {
        let mut said = Vec::new();
        while !said.ends_with(b"here") {
            let read = timeout(Duration::from_secs(10), socket.read_buf(&mut said)).await;
            assert!(read.expect("an answer in time").unwrap() > 0, "closed after {said:?}");
        }
        said
    }

    #[tokio::test]
    async fn an_answer_under_way_is_finished_and_then_it_ends() {
        let (open, gate) = watch::channel(false);
        let (address, end, serving) = server(4, gate).await;
        let mut socket = asks(address).await;
        // It has been read once the server holds it: nothing but the gate is between it and its answer.
        timeout(Duration::from_millis(200), socket.readable()).await.expect_err("the gate is shut");
        end.send(()).unwrap();
        timeout(Duration::from_secs(10), async { while TcpStream::connect(address).await.is_ok() {} })
            .await
            .expect("nobody is let in any more");
        open.send_replace(true);
        assert!(hears(&mut socket).await.starts_with(b"HTTP/1.1 200 OK\r\n"));
        timeout(Duration::from_secs(10), serving).await.expect("it ends").unwrap();
        assert_eq!(socket.read(&mut [0; 1]).await.unwrap(), 0, "it closes");
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_for_one() {
        let (_open, gate) = watch::channel(true);
        let (address, _end, _serving) = server(1, gate).await;
        let mut first = asks(address).await;
        hears(&mut first).await;
        let mut second = asks(address).await;
        timeout(Duration::from_millis(200), second.readable()).await.expect_err("one place, and it is taken");
        drop(first);
        hears(&mut second).await;
    }
}
